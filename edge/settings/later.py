"""Keys of later versions, by the table that they will stand in: known, so that nobody takes them for typing mistakes."""

from __future__ import annotations

from typing import Final

__all__ = ["LATER"]

LATER: Final[dict[str, frozenset[str]]] = {
    "File": frozenset({"acme", "store", "jwt", "rate_limit", "waf", "auth", "rate_limits", "regions", "scan"}),
    "Server": frozenset({"cluster"}),
    "CertificateSource": frozenset({"acme", "k8s_csr"}),
    "NamedCertificate": frozenset({"acme", "k8s_csr"}),
    "Host": frozenset(
        {"auth", "scopes", "rate_limits", "waf", "regions", "residency", "max_age"}
    ),
    "Route": frozenset({"auth", "scopes", "rate_limits", "waf", "regions", "residency"}),
    "EndpointTable": frozenset({"tier", "region"}),
    "Upstream": frozenset({"failover_below", "regions"}),
    "UpstreamTls": frozenset({"crl", "ocsp"}),
}  # fmt: skip
