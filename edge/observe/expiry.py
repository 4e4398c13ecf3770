"""How soon certificates expire, in steps that fit their lifetime.

A certificate of six days that has two left is fine, one of a year that has two left is not. So a step is a share of the
lifetime, and at most so many days, for a certificate of ten years says nothing by having two left. Whoever renews does so at
a third of the lifetime (ACME clients, cert-manager), so the first step comes after that: when it is reached, a renewal failed.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.settings.model import Certificate, ClientAuthMode, Crl, Settings, Trust

__all__ = ["Expiring", "Stale", "certificates", "expiring", "revocation_lists", "stale"]

_DAY = 86_400.0
# share of the lifetime that is left, at most so many seconds, severity
_STEPS = ((0.2, 30 * _DAY, "warning"), (0.1, 14 * _DAY, "warning"), (0.05, 3 * _DAY, "error"), (0.0, 0.0, "error"))
_DEGRADED = 2  # the step from which on it is more than a remark


@dataclass(frozen=True, slots=True)
class Expiring:
    certificate: Certificate
    used_by: tuple[str, ...]
    step: int  # from 1; the last one: expired
    level: str
    left: float  # seconds; below 0: expired since

    @property
    def is_degraded(self) -> bool:
        return self.step >= _DEGRADED

    @property
    def text(self) -> str:
        """A sentence."""
        used = ", ".join(self.used_by[:3]) + (f" and {len(self.used_by) - 3} more" if len(self.used_by) > 3 else "")
        when = f"expires in {_duration(self.left)}" if self.left > 0 else f"expired {_duration(-self.left)} ago"
        return f"certificate {self.certificate.name} ({used}) {when}"


def certificates(settings: Settings) -> list[tuple[Certificate, tuple[str, ...]]]:
    """Every certificate that is in use, once, with who uses it: hosts, and upstreams as "upstream NAME"."""
    used: dict[str, tuple[Certificate, list[str]]] = {}
    for host in settings.hosts:
        for certificate in host.certificates:
            used.setdefault(certificate.fingerprint, (certificate, []))[1].extend(host.names)
    for name, upstream in settings.upstreams.items():
        if upstream.tls is not None and upstream.tls.client_certificate is not None:
            own = upstream.tls.client_certificate
            used.setdefault(own.fingerprint, (own, []))[1].append(f"upstream {name}")
    return [(certificate, tuple(dict.fromkeys(names))) for certificate, names in used.values()]


def expiring(settings: Settings, now: float) -> list[Expiring]:
    """The certificates that have reached a step, the most urgent first. `now` in POSIX seconds."""
    found = []
    for certificate, names in certificates(settings):
        left = certificate.not_after - now
        lifetime = certificate.not_after - certificate.not_before
        step = sum(left <= min(share * lifetime, most) for share, most, _ in _STEPS)
        if step:
            found.append(Expiring(certificate, names, step, _STEPS[step - 1][2], left))
    return sorted(found, key=lambda one: (one.left, one.certificate.fingerprint))


@dataclass(frozen=True, slots=True)
class Stale:
    """A revocation list that should have been replaced. `refuses`: its issuer's certificates are not accepted any more."""

    trust: str
    crl: Crl
    refuses: bool
    left: float  # seconds; below 0: since when it refuses

    @property
    def level(self) -> str:
        return "error" if self.refuses else "warning"

    @property
    def text(self) -> str:
        """A sentence."""
        since = f"for {_duration(-self.left)}" if self.refuses else f"in {_duration(self.left)} if no newer one comes"
        what = "certificates are refused" if self.refuses else "certificates will be refused"
        return f"revocation list of {self.crl.name} ([trust.{self.trust}]) is out of date: its {what} {since}"


def revocation_lists(settings: Settings) -> list[tuple[Trust, Crl]]:
    """Every list that is looked into, once for each store."""
    stores = [host.client_auth.trust for host in settings.hosts if host.client_auth.mode is not ClientAuthMode.OFF]
    stores += [upstream.tls.trust for upstream in settings.upstreams.values() if upstream.tls is not None]
    by_name = {store.name: store for store in stores if store is not None and store.crl_check != "off"}
    return [(store, crl) for store in by_name.values() for crl in store.crls]


def stale(settings: Settings, now: float) -> list[Stale]:
    """The lists that should have been replaced by `now` (POSIX seconds), the most urgent first."""
    found = []
    for store, crl in revocation_lists(settings):
        if crl.next_update is not None and crl.next_update < now:
            left = crl.next_update + store.crl_grace - now
            found.append(Stale(store.name, crl, left < 0, left))
    return sorted(found, key=lambda one: (one.left, one.crl.issuer))


def _duration(seconds: float) -> str:
    for word, length in (("day", _DAY), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= 2 * length or (word == "minute" and seconds >= length):
            count = int(seconds // length)
            return f"{count} {word}{'s' if count > 1 else ''}"
    return "less than a minute"
