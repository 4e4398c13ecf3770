"""Settings go to another process and are the same there: equal, with their places, and with what was shared still shared."""

from __future__ import annotations

from dataclasses import asdict, replace

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.settings.model import Host, Limits, Listener, Log, Place, Route, Server, Settings, Upstream
from edge.settings.transfer import TransferError, decode, decode_steps, encode
from tests import builders
from tests.settings.conftest import HOST, Load

st.register_type_strategy(float, st.floats(allow_nan=False))
WHOLE = f"""
{HOST}
[[host]]
names = ["*.mesh.internal"]
certificates = [{{ chain = "api.pem", key = "api.key" }}]
client_auth = {{ mode = "require", trust = "mesh" }}
[trust.mesh]
ca = ["ca.pem"]
[[route]]
host = "api.example.com"
path = "/v1/"
methods = ["GET", "PUT"]
upstream = [{{ name = "app", weight = 9 }}, {{ name = "next", weight = 1 }}]
limits = {{ request_body = "off" }}
response_headers = {{ set = {{ "X-A" = "b" }}, remove = ["Server"] }}
[[route]]
path = "/ping"
respond = {{ status = 200, body = "ok" }}
[[route]]
host = "api.example.com"
path = "/"
redirect = {{ to = "https://www.example.com{{path}}", status = 308 }}
[upstream.app]
endpoints = ["http://127.0.0.1:8000", "unix:/run/app.sock"]
health = {{ path = "/healthz" }}
[upstream.next]
endpoints = ["https://next.example.com"]
[trusted_proxies]
from = ["10.0.0.0/8", "2001:db8::/32"]
[log]
access = {{ to = "off" }}
"""


def whole(loads: Load) -> Settings:
    loaded = loads(WHOLE)
    assert loaded.settings is not None, loaded.problems
    return loaded.settings


def test_settings_of_a_file_come_back_equal(loads: Load) -> None:
    before = whole(loads)
    after = decode(encode(before))
    assert after == before
    assert asdict(after) == asdict(before)  # places too
    assert {type(network) for network in after.trusted_proxies} == {type(network) for network in before.trusted_proxies}
    assert encode(after) == encode(before)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    hosts=st.lists(st.from_type(Host), max_size=2).map(tuple),
    routes=st.lists(st.from_type(Route), max_size=2).map(tuple),
    listeners=st.lists(st.from_type(Listener), max_size=2).map(tuple),
    upstreams=st.dictionaries(st.text(), st.from_type(Upstream), max_size=2),
    server=st.from_type(Server),
    log=st.from_type(Log),
    limits=st.from_type(Limits),
)
def test_any_settings_come_back_equal(
    hosts: tuple[Host, ...],
    routes: tuple[Route, ...],
    listeners: tuple[Listener, ...],
    upstreams: dict[str, Upstream],
    server: Server,
    log: Log,
    limits: Limits,
) -> None:
    before = Settings(
        server=server, log=log, limits=limits, listeners=listeners, hosts=hosts, routes=routes, upstreams=upstreams
    )  # fmt: skip
    after = decode(encode(before))
    assert after == before
    assert asdict(after) == asdict(before)


def test_what_is_equal_is_one_object_on_the_other_side(loads: Load) -> None:
    after = decode(encode(whole(loads)))
    first, second = after.hosts
    assert first.certificates[0] is second.certificates[0]
    assert after.upstreams["app"] is next(route for route in after.routes if len(route.targets) == 2).targets[0].upstream
    assert len({id(listener.limits) for listener in after.listeners}) == 1


def test_a_store_behind_many_hosts_goes_once() -> None:
    store = replace(builders.TRUST, ca_pem=b"x" * 100_000)
    hosts = tuple(
        builders.host(f"h{number}.test", client_auth=replace(builders.MTLS, trust=replace(store))) for number in range(50)
    )
    assert len(encode(builders.settings(hosts=hosts))) < 150_000


def test_without_keys_the_keys_are_empty(loads: Load) -> None:
    before = whole(loads)
    data = encode(before, keys=False)
    assert b"PRIVATE KEY" not in data
    after = decode(data)
    assert all(certificate.key_pem == b"" for host in after.hosts for certificate in host.certificates)
    assert [host.names for host in after.hosts] == [host.names for host in before.hosts]


def test_a_line_further_down_makes_no_difference(loads: Load) -> None:
    before = whole(loads)
    moved = loads("# a comment\n" + WHOLE).settings
    assert moved is not None
    assert moved.hosts == before.hosts
    assert moved.upstreams == before.upstreams
    assert moved.hosts[0].place == replace(before.hosts[0].place, line=before.hosts[0].place.line + 1)


def test_steps_are_many_and_the_last_one_is_the_settings() -> None:
    made = builders.settings(*[builders.route(f"/{number}") for number in range(100)], hosts=(builders.host("a.test"),))
    steps = list(decode_steps(encode(made)))
    assert len(steps) > 2
    assert steps[:-1] == [None] * (len(steps) - 1)
    assert steps[-1] == made


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"not msgpack",
        msgspec.msgpack.encode((1, [])),
        msgspec.msgpack.encode((999, [("Place", ["", 0, 0])])),
        msgspec.msgpack.encode((1, [("Place", ["", 0, 0])])),
        msgspec.msgpack.encode((1, [("Nothing", [])])),
        msgspec.msgpack.encode((1, [("Place", ["only one"])])),
        msgspec.msgpack.encode((1, [("Target", [7, 1])])),
    ],
)
def test_other_bytes_are_told_apart(data: bytes) -> None:
    with pytest.raises(TransferError):
        decode(data)


def test_text_that_is_not_unicode_is_an_error() -> None:
    with pytest.raises(TransferError):
        encode(builders.settings(builders.route("/\udcff")))


def test_places_take_no_part_in_comparing() -> None:
    one = builders.host("a.test", place=Place(file="edge.toml", line=3))
    other = builders.host("a.test", place=Place(file="edge.toml", line=9))
    assert one == other
    assert hash(one) == hash(other)
