"""HTTP/1.1 without I/O: `ServerCodec` towards clients, `ClientCodec` towards upstreams.

Bytes go in with `feed`; `next_event` is pulled until it says None; what is to be written comes back as bytes. See `h1_head`
for how heads are read, `chunked` for the transfer coding, `h1_framing` for what the roles share.
"""

from edge.http.h1_client import ClientCodec
from edge.http.h1_server import ServerCodec

__all__ = ["ClientCodec", "ServerCodec"]
