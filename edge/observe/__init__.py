"""What the gateway tells about itself: access lines, failed handshakes, events."""

from edge.observe.access import AccessRecord, HandshakeFailure
from edge.observe.log import Log

__all__ = ["AccessRecord", "HandshakeFailure", "Log"]
