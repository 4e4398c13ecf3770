"""From settings to settings in one process: what goes on, what ends, and that nothing is left of what is gone."""

from __future__ import annotations

import gc
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from edge.net.client import ClientTransport
from edge.net.listener import ListenerState
from edge.net.upstreams import Group
from edge.relay.front import Front
from edge.settings.model import Host
from edge.settings.transfer import TransferError, encode
from edge.tls.choice import ServerContext
from edge.tls.trust import TrustError
from tests.conftest import wait_until
from tests.e2e.clients import Wire
from tests.e2e.h2raw import H2Client
from tests.e2e.pki import Leaf, Pki
from tests.e2e.upstreams import Conn, ScriptedUpstream, plain_answer
from tests.net.running import Running, listening


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    running: list[Running] = []

    def begin(toml: str) -> Running:
        running.append(Running(tmp_path, toml))
        return running[-1]

    yield begin
    for server in running:
        server.end()


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    made = ScriptedUpstream(slowly)
    yield made
    made.close()


go = threading.Event()


def slowly(conn: Conn) -> None:
    """Answers /held when `go` is set, /ws with a tunnel that echoes, and everything else at once."""
    while True:
        request = conn.read_request()
        if request.path == "/held":
            assert go.wait(60)
        if request.path == "/ws":
            conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
            conn.send(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
            while True:
                conn.send(conn.some())
        conn.send(plain_answer(f"{conn.number}".encode()))


def site(pki: Pki, leaf: Leaf | None = None, *, body: str = "one", more: str = "", upstream: str = "") -> str:
    """One host that answers /say with `body`, and passes everything else on."""
    text = pki.host(upstream, leaf=leaf) + more
    return f'{text}\n[[route]]\nhost = "localhost"\npath = "/say"\nrespond = {{ status = 200, body = "{body}" }}\n'


def says(wire: Wire) -> str:
    return wire.get("/say").body.decode()


def shown(port: int) -> bytes:
    """The certificate that a new connection sees."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    raw = socket.create_connection(("127.0.0.1", port), 5)
    with raw, context.wrap_socket(raw, server_hostname="localhost") as tls:
        return tls.getpeercert(True) or b""


def test_connections_live_through_a_renewal_and_follow_the_routes(
    start: Callable[[str], Running], clients: ExitStack, pki: Pki
) -> None:
    running = start(site(pki, body="one"))
    old_leaf = shown(running.port)
    h1 = clients.enter_context(Wire(running.port, pki.ca))
    h2 = clients.enter_context(H2Client(running.port, pki.ca))
    plain = clients.enter_context(Wire(running.plain_port, None))
    assert (says(h1), says(plain), bytes(h2.get("/say").body)) == ("one", "one", b"one")
    running.reload(site(pki, pki.server("renewed", "localhost", "127.0.0.1"), body="two"))
    assert shown(running.port) != old_leaf
    assert (says(h1), says(plain), bytes(h2.get("/say").body)) == ("two", "two", b"two")
    assert h2.goaway is None
    running.reload(site(pki, body="three"))
    assert shown(running.port) == old_leaf
    assert (says(h1), bytes(h2.get("/say").body)) == ("three", b"three")


def test_a_request_and_a_tunnel_under_way_go_on_untouched(
    start: Callable[[str], Running], clients: ExitStack, pki: Pki, upstream: ScriptedUpstream
) -> None:
    go.clear()
    running = start(site(pki, upstream=upstream.url))
    h1 = clients.enter_context(Wire(running.port, pki.ca))
    h2 = clients.enter_context(H2Client(running.port, pki.ca))
    tunnel = clients.enter_context(Wire(running.port, pki.ca))
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    assert tunnel.get("/ws", *upgrade).status == 101
    h1.send(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n")
    sid = h2.request("/held")
    wait_until(lambda: running.call(lambda: sum(place.state.active for place in running.server.places())) == 3)
    # neither the upstream nor the certificate nor the client's terms are as they were
    more = f'client_auth = {{ mode = "request", trust = "t" }}\n[trust.t]\nca = ["{pki.client_ca}"]\n'
    running.reload(site(pki, pki.localhost_rsa, body="two", more=more))
    tunnel.send(b"still here")
    assert tunnel.exactly(10) == b"still here"
    go.set()
    answer = h1.read_response()
    assert (answer.status, answer.get("connection")) == (200, "close")
    assert h2.response(sid).status == 200
    assert h2.goaway == 0
    tunnel.send(b"and here")
    assert tunnel.exactly(8) == b"and here"
    tunnel.close()
    wait_until(lambda: running.call(lambda: running.server.listeners.connections) == 0)


def test_who_would_not_be_let_in_as_before_is_sent_away(start: Callable[[str], Running], clients: ExitStack, pki: Pki) -> None:
    running = start(site(pki))
    h1 = clients.enter_context(Wire(running.port, pki.ca))
    h2 = clients.enter_context(H2Client(running.port, pki.ca))
    quiet = clients.enter_context(Wire(running.port, pki.ca))  # has not said anything yet
    assert (says(h1), bytes(h2.get("/say").body)) == ("one", b"one")
    more = f'client_auth = {{ mode = "require", trust = "t" }}\n[trust.t]\nca = ["{pki.client_ca}"]\n'
    running.reload(site(pki, body="two", more=more))
    assert h1.ended()
    h2.until(lambda: h2.goaway is not None)
    assert quiet.get("/say").status == 421
    with Wire(running.port, pki.ca, client=pki.client) as known:
        assert says(known) == "two"


def test_a_connection_that_cannot_be_told_ends_and_the_others_are_told(
    start: Callable[[str], Running], clients: ExitStack, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on under terms that hold no more."""
    running = start(site(pki, body="one"))
    wires = [clients.enter_context(Wire(running.port, pki.ca)) for _ in range(3)]
    assert [says(wire) for wire in wires] == ["one"] * 3
    renew, failed = ClientTransport.renew, []

    def renew_but_one(transport: ClientTransport) -> None:
        if not failed:
            failed.append(transport)
            raise LookupError("a defect")
        renew(transport)

    monkeypatch.setattr(ClientTransport, "renew", renew_but_one)
    running.reload(site(pki, body="two"))
    assert failed[0].disposed
    assert running.call(lambda: running.server.listeners.connections) == 2
    served = []
    for wire in wires:
        with suppress(OSError, EOFError):
            served.append(says(wire))
    assert served == ["two", "two"]
    assert "LookupError: a defect" in str(running.bugs)
    running.bugs.clear()


def test_a_host_that_is_gone_is_not_served_any_more(start: Callable[[str], Running], clients: ExitStack, pki: Pki) -> None:
    running = start(site(pki))
    h1 = clients.enter_context(Wire(running.port, pki.ca))
    assert says(h1) == "one"
    running.reload(pki.host(name="open.test", leaf=pki.open) + '[[route]]\npath = "/"\nrespond = { status = 204 }\n')
    assert h1.ended()
    with pytest.raises(ssl.SSLError):
        Wire(running.port, pki.ca)


def test_settings_that_cannot_be_used_change_nothing(start: Callable[[str], Running], clients: ExitStack, pki: Pki) -> None:
    running = start(site(pki))
    h1 = clients.enter_context(Wire(running.port, pki.ca))
    assert says(h1) == "one"
    settings = running.settings(site(pki, body="two"))
    broken = replace(settings.hosts[0], certificates=(replace(settings.hosts[0].certificates[0], key_pem=b"no key"),))
    assert isinstance(running.prepare(encode(replace(settings, hosts=(broken,)))), TrustError)
    assert isinstance(running.prepare(b"not settings"), TransferError)
    with listening() as sock:
        spare = sock.dup()
        assert isinstance(running.prepare(encode(settings), [("nobody", spare)]), ValueError)
        assert spare.fileno() == -1
    with pytest.raises(RuntimeError):
        running.commit()
    assert says(h1) == "one"
    running.reload(site(pki, body="two"))
    assert says(h1) == "two"


def test_what_is_prepared_can_be_abandoned(start: Callable[[str], Running], pki: Pki, upstream: ScriptedUpstream) -> None:
    running = start(site(pki))
    spare = listening()
    port = spare.getsockname()[1]
    more = f'[[listener]]\nname = "extra"\naddress = "127.0.0.1:{port}"\ntls = "off"\n'
    assert running.prepare(encode(running.settings(site(pki, more="") + more)), [("extra", spare)]) is None
    running.call(running.server.abandon)
    assert spare.fileno() == -1
    with pytest.raises(RuntimeError):
        running.commit()


def test_listeners_come_and_go(start: Callable[[str], Running], clients: ExitStack, pki: Pki) -> None:
    running = start(site(pki))
    spare = listening()
    port = spare.getsockname()[1]
    running.ports["extra"] = port
    running.reload(site(pki), [("extra", spare)])
    extra = clients.enter_context(Wire(port, None))
    assert says(extra) == "one"
    idle = clients.enter_context(Wire(running.plain_port, None))
    assert says(idle) == "one"
    waiting = [socket.create_connection(("127.0.0.1", running.plain_port)) for _ in range(3)]
    for sock in waiting:
        clients.enter_context(sock)
    running.reload(site(pki, body="two") + "# no plain")
    assert says(extra) == "two"
    assert idle.ended()
    for sock in waiting:  # they had come before the listener went
        sock.sendall(b"GET /say HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"connection: close" in sock.recv(65536).lower()
        assert sock.recv(100) == b""
    with pytest.raises(OSError):
        Wire(running.plain_port, None)
    wait_until(lambda: running.call(lambda: len(running.server.listeners.in_force)) == 2)


def test_a_listener_takes_up_tls(start: Callable[[str], Running], clients: ExitStack, pki: Pki) -> None:
    running = start(site(pki))
    plain = clients.enter_context(Wire(running.plain_port, None))
    assert says(plain) == "one"
    tls = f'[[listener]]\nname = "plain"\naddress = "127.0.0.1:{running.plain_port}"\n'
    running.reload(site(pki, body="two") + tls)
    assert plain.ended()
    with Wire(running.plain_port, pki.ca) as secure:
        assert says(secure) == "two"
    running.reload(site(pki, body="three"))
    with Wire(running.plain_port, None) as again:
        assert says(again) == "three"


def test_a_socket_that_is_given_again_is_the_same_socket(start: Callable[[str], Running], pki: Pki) -> None:
    running = start(site(pki))
    own = running.call(lambda: running.server.listeners.in_force[1].sockets[0])
    renamed = f'[[listener]]\nname = "other"\naddress = "127.0.0.1:{running.plain_port}"\ntls = "off"\n'
    running.reload(site(pki, body="two") + "# no plain\n" + renamed, [("other", own.dup())])
    assert own.fileno() == -1
    with Wire(running.plain_port, None) as wire:
        assert says(wire) == "two"


def test_sockets_of_a_sibling_are_lent(start: Callable[[str], Running], pki: Pki) -> None:
    running = start(site(pki))
    with listening() as sibling:
        port = sibling.getsockname()[1]
        running.call(lambda: running.server.listeners.adopt(2, [("plain", sibling.dup()), ("gone", sibling.dup())]))
        with Wire(port, None) as wire:
            assert says(wire) == "one"
        running.reload(site(pki, body="two"))
        with Wire(port, None) as wire:
            assert says(wire) == "two"
        running.call(lambda: running.server.listeners.release(2))
        with socket.create_connection(("127.0.0.1", port)):
            sibling.settimeout(60)
            sibling.accept()[0].close()


def test_sockets_are_taken_away_empty(start: Callable[[str], Running], clients: ExitStack, pki: Pki) -> None:
    running = start(site(pki))
    h1 = clients.enter_context(Wire(running.port, pki.ca))
    taken = threading.Event()
    running.call(lambda: running.server.listeners.take_away("main", taken.set))
    assert taken.wait(60)
    with pytest.raises(OSError):
        Wire(running.port, None)
    assert says(h1) == "one"
    with Wire(running.plain_port, None) as plain:
        assert says(plain) == "one"


def test_upstream_connections_survive_where_the_upstream_is_the_same(
    start: Callable[[str], Running], clients: ExitStack, pki: Pki, upstream: ScriptedUpstream
) -> None:
    go.set()
    named = f'[upstream.app]\nendpoints = ["{upstream.url}"]\n'
    running = start(site(pki, upstream="app") + named)
    h1 = clients.enter_context(Wire(running.port, pki.ca))
    first = h1.get("/a").body
    running.reload("# moves every line\n" + site(pki, upstream="app", body="two") + named)
    assert h1.get("/a").body == first
    running.reload(site(pki, upstream="app") + named + 'keepalive = 7\nhealth = { path = "/say" }\n')
    assert h1.get("/a").body != first
    wait_until(lambda: running.call(lambda: len(running.server._upstreams._retired)) == 0)


def test_what_is_known_of_an_endpoint_goes_over(start: Callable[[str], Running], clients: ExitStack, pki: Pki) -> None:
    with listening() as nobody:
        dead = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    upstream = f'[upstream.app]\nendpoints = ["{dead}"]\nretry = {{ attempts = 1 }}\n'
    running = start(site(pki, upstream="app") + upstream)
    h1 = clients.enter_context(Wire(running.port, pki.ca))
    for _ in range(3):
        assert h1.get("/a").status == 502

    def known() -> tuple[int, bool]:
        (place,) = running.server.places()
        return place.state.failures, place.state.ejected_until > 0

    assert running.call(known) == (3, True)
    running.reload(site(pki, upstream="app") + upstream + "keepalive = 7\n")
    assert running.call(known) == (3, True)


def test_traffic_goes_on_while_many_contexts_are_built(start: Callable[[str], Running], clients: ExitStack, pki: Pki) -> None:
    running = start(site(pki))
    settings = running.settings(site(pki, body="two"))
    many = tuple(replace(settings.hosts[0], names=(f"h{number}.test",)) for number in range(300))
    longest = [0.0]

    def watch(before: float) -> None:
        now = time.thread_time()  # of this loop alone: what others do on the machine does not count
        longest[0] = max(longest[0], now - before)
        if not stop.is_set():
            running.loop.call_soon(watch, time.thread_time())

    stop = threading.Event()
    gc.freeze()  # as workers do: what the other tests have left is not looked through here
    try:
        running.loop.call_soon_threadsafe(lambda: watch(time.thread_time()))
        assert running.prepare(encode(replace(settings, hosts=(*settings.hosts, *many)))) is None
        running.commit()
        stop.set()
    finally:
        gc.unfreeze()
    assert longest[0] < 0.03  # of the 200 ms that it takes
    assert len(running.server.listeners.in_force[0].table.contexts) == 301  # type: ignore[union-attr]


def objects() -> dict[str, int]:
    kinds = (Front, ServerContext, Group, ListenerState, Host)
    alive = [type(found).__name__ for found in gc.get_objects() if isinstance(found, kinds)]
    return {kind.__name__: alive.count(kind.__name__) for kind in kinds}


def test_nothing_is_left_of_generations_that_are_gone(
    start: Callable[[str], Running], clients: ExitStack, pki: Pki, upstream: ScriptedUpstream
) -> None:
    """And no collector is needed for it: old settings are not parts of cycles."""
    go.set()
    gc.collect()
    others = objects()["Group"]  # of other tests
    running = start(site(pki, upstream=upstream.url))
    h1 = clients.enter_context(Wire(running.port, pki.ca))
    h2 = clients.enter_context(H2Client(running.port, pki.ca))
    other = pki.server("other", "localhost", "127.0.0.1")
    count = int(os.environ.get("EDGE_TEST_GENERATIONS", "60"))

    def parcel(number: int) -> bytes:
        more = f'[upstream.u{number % 7}]\nendpoints = ["http://127.0.0.1:{9 + number % 5}"]\nhealth = {{ path = "/" }}\n'
        leaf = (pki.localhost, other)[number % 2]
        return encode(running.settings(site(pki, leaf, body=str(number), upstream=upstream.url) + more))

    parcels = [parcel(number) for number in range(14)]

    def generation(number: int) -> None:
        body = str(number % 14)
        assert running.prepare(parcels[number % 14]) is None
        running.commit()
        assert says(h1) == body
        assert bytes(h2.get("/say").body) == body.encode()
        assert h1.get("/a").status == 200

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def settled() -> bool:
        return not running.call(lambda: running.server._upstreams._retired) and objects()["Group"] == others + 2

    for number in range(10):
        generation(number)
    wait_until(settled)
    gc.collect()
    gc.disable()
    try:
        before, open_before = objects(), descriptors()
        memory = resident()
        for number in range(count):
            generation(number)
        wait_until(settled)
        after = objects()
    finally:
        gc.enable()
    assert after == before
    assert descriptors() <= open_before + 2  # of health checks that are under way
    if count >= 500:  # fewer say nothing: the first ones fill what is remembered
        assert resident() < memory * 1.1


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
