"""A rehearsal finds what clients would find, and nothing to say about hosts that are as they should be."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from edge.settings.model import ClientAuth, ClientAuthMode, Host
from edge.tls.choice import HostTable, ServerContext
from edge.tls.rehearsal import Rehearsed, rehearse
from tests.tls.peers import PKI, host


def rehearsed(made: Host, context: ServerContext | None = None) -> Rehearsed:
    return rehearse(HostTable([context or ServerContext(made)], None), made)


@pytest.mark.parametrize(
    "made",
    [
        host(),
        host(rsa=True),
        host(rsa=True, ecdsa=False),
        host("*.wild.test"),
        host("127.0.0.1"),
        host("a.test", "b.test", min_version="1.3"),
        host(max_version="1.2"),
        host(alpn=("http/1.1",)),
        host(alpn=()),
        host(tickets=False),
        host(groups=("X25519MLKEM768",), min_version="1.3"),
        host(groups=(), ciphers=(), ciphersuites=()),
        host(client_auth=ClientAuthMode.REQUEST),
        host(client_auth=ClientAuthMode.REQUIRE),
        host(rsa=True, client_auth=ClientAuthMode.REQUIRE, max_version="1.2"),
    ],
    ids=(
        "both-versions",
        "two-types",
        "rsa",
        "wildcard",
        "address",
        "1.3",
        "1.2",
        "http1",
        "no-alpn",
        "no-tickets",
        "ml-kem",
        "defaults",
        "request",
        "require",
        "require-rsa-1.2",
    ),
)
def test_there_is_nothing_to_say_about_a_host_that_is_right(made: Host) -> None:
    assert rehearsed(made) == ((), ())


def built(made: Host, **changes: Any) -> Rehearsed:
    """The rehearsal of a host whose context was made for one that differs."""
    table = HostTable([ServerContext(replace(made, **changes))], None)
    return rehearse(table, made)


def test_another_certificate_is_noticed() -> None:
    made = host()
    other = PKI.certificate("a.test", "other.test")
    found = built(made, certificates=(other,))
    assert "another certificate was shown" in found.problems[0]
    assert len(found.problems) == 2  # TLS 1.2 and 1.3


@pytest.mark.parametrize("mode", [ClientAuthMode.OFF, ClientAuthMode.REQUEST])
def test_who_should_be_kept_out_and_is_not_is_noticed(mode: ClientAuthMode) -> None:
    made = host(client_auth=ClientAuthMode.REQUIRE)
    found = built(made, client_auth=ClientAuth(mode=mode, trust=PKI.client_trust))
    assert all("without a certificate was let in" in problem for problem in found.problems)
    assert len(found.problems) == 2


def test_a_stranger_that_is_let_in_is_noticed() -> None:
    found = built(host(client_auth=ClientAuthMode.REQUEST), client_auth=ClientAuth())
    assert found.problems == ("host a.test: a client with a certificate that nobody has signed was let in",)


def test_a_host_that_asks_although_it_should_not_is_noticed() -> None:
    found = built(host(), client_auth=ClientAuth(mode=ClientAuthMode.REQUIRE, trust=PKI.client_trust))
    assert "the handshake failed: client-certificate-missing" in found.problems[0]


def test_another_protocol_is_noticed() -> None:
    found = built(host(), tls=replace(host().tls, alpn=("http/1.1",)))
    assert found.problems[0].endswith("the protocol agreed on is http/1.1 instead of h2")


def test_a_version_that_is_missing_is_noticed() -> None:
    found = built(host(), tls=replace(host().tls, min_version="1.3"))
    assert "TLS 1.2: the handshake failed: no-common-version" in found.problems[0]


def test_a_name_that_leads_nowhere_is_noticed() -> None:
    found = built(host(), names=("other.test",))
    assert "unknown-sni" in found.problems[0]


def test_a_certificate_that_no_suite_fits_is_worth_a_word() -> None:
    found = rehearsed(host(rsa=True, ciphers=("ECDHE-ECDSA-AES128-GCM-SHA256",)))
    assert found.problems == ()
    assert found.warnings == ("host a.test: rsa certificate, TLS 1.2: never used, no cipher suite or signature fits it",)
    alone = rehearsed(host(rsa=True, ecdsa=False, ciphers=("ECDHE-ECDSA-AES128-GCM-SHA256",)))
    assert "nobody can connect with TLS 1.2" in alone.problems[0]


def test_a_rehearsal_is_quick() -> None:
    contexts = [ServerContext(host(f"h{number}.test")) for number in range(50)]
    rehearse(HostTable(contexts, None), contexts[0].host)
    began = time.process_time()
    table = HostTable(contexts, None)
    for context in contexts:
        assert rehearse(table, context.host) == ((), ())
    assert (time.process_time() - began) / len(contexts) < 0.01  # a tenth and a half of it on a quiet machine
