from __future__ import annotations

from dataclasses import replace

import pytest

from edge.settings.identity import coalesce_id, policy_id
from edge.settings.model import ClientAuth, ClientAuthMode, Host, TlsPolicy, Trust
from edge.settings.names import NameIndex, canonical
from tests import builders


def test_names_are_found_by_exact_name_then_by_one_label_of_a_wildcard() -> None:
    index = NameIndex([("a.example", 1), ("*.example", 2), ("*.a.example", 3), ("b.a.example", 4)])
    assert index.find("a.example") == 1
    assert index.find("x.example") == 2
    assert index.find("x.a.example") == 3
    assert index.find("b.a.example") == 4
    assert index.find("*.example") == 2
    for name in ("example", "x.y.a.example", "", ".", ".example", "example."):
        assert index.find(name) is None
    assert sorted(index.values()) == [1, 2, 3, 4]


def test_canonical() -> None:
    assert canonical("A.Example.") == "a.example"


BASE = builders.host("a.example", "b.example")
MTLS = ClientAuth(mode=ClientAuthMode.REQUIRE, trust=Trust(name="m", ca_pem=b"1"))


@pytest.mark.parametrize(
    ("other", "same_policy", "same_connection"),
    [
        (replace(BASE, names=("b.example", "a.example")), True, True),
        (replace(BASE, names=("c.example",)), False, True),
        (replace(BASE, tls=TlsPolicy(min_version="1.3")), False, True),
        (replace(BASE, tls=replace(BASE.tls, ticket_lifetime=60.0)), False, True),
        (replace(BASE, certificates=(builders.certificate("renewed"),)), True, False),
        (replace(BASE, client_auth=MTLS), False, False),
    ],
)
def test_what_makes_two_hosts_the_same(other: Host, same_policy: bool, same_connection: bool) -> None:
    assert (policy_id(BASE) == policy_id(other)) is same_policy
    assert (coalesce_id(BASE) == coalesce_id(other)) is same_connection
    assert len(policy_id(other)) == len(coalesce_id(other)) == 32


@pytest.mark.parametrize(
    "auth",
    [
        replace(MTLS, mode=ClientAuthMode.REQUEST),
        replace(MTLS, depth=1),
        replace(MTLS, trust=Trust(name="m", ca_pem=b"2")),
        replace(MTLS, trust=Trust(name="m", ca_pem=b"1", system=True)),
    ],
)
def test_every_part_of_client_authentication_counts(auth: ClientAuth) -> None:
    first, second = replace(BASE, client_auth=MTLS), replace(BASE, client_auth=auth)
    assert policy_id(first) != policy_id(second)
    assert coalesce_id(first) != coalesce_id(second)
