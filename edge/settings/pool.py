"""The `[[certificate]]` tables: found by name, or by what they cover, and remembered when somebody uses them."""

from __future__ import annotations

from edge.settings import keys, model
from edge.settings.certificates import CertificateReader, covers
from edge.settings.layers import typed
from edge.settings.problems import Path, nearest
from edge.settings.source import Source

__all__ = ["NamedCertificates"]


class NamedCertificates:
    """All of them, read at once."""

    def __init__(self, source: Source, reader: CertificateReader) -> None:
        self._source = source
        self._reader = reader
        self._by_name: dict[str, tuple[Path, model.Certificate | None]] = {}
        self._used: set[str] = set()
        for index, table in enumerate(source.tree.get("certificate", [])):
            path: Path = ("certificate", index)
            raw = typed(source, path, table, keys.NamedCertificate)
            if raw is None:
                name = table.get("name") if isinstance(table, dict) else None
                if isinstance(name, str):
                    self._by_name.setdefault(name, (path, None))
                continue
            if raw.name in self._by_name:
                other = source.key(self._by_name[raw.name][0])
                source.error(
                    (*path, "name"),
                    f"two certificates are called '{raw.name}', the first at {other}",
                    "give them different names",
                )
                continue
            self._by_name[raw.name] = (path, reader.read(path, raw, raw.name))

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def whole(self) -> bool:
        """Whether every one of them could be read."""
        return all(certificate is not None for _, certificate in self._by_name.values())

    def find(self, name: str, at: Path) -> model.Certificate | None:
        """The certificate of that name; the problem is told when there is none."""
        if name not in self._by_name:
            shown = self._source.shown(at, name)
            hint = nearest(name, self._by_name)
            mend = f'write "{hint}"' if hint else 'write { chain = "…", key = "…" }, or a [[certificate]] of this name'
            self._source.error(at, f"there is no certificate '{shown}'", mend)
            return None
        self._used.add(name)
        return self._by_name[name][1]

    def client(self, name: str, at: Path) -> model.Certificate | None:
        """The same, for a certificate that we show to an upstream."""
        if name not in self._by_name:
            hint = nearest(name, self._by_name)
            shown = self._source.shown(at, name)
            self._source.error(
                at,
                f"there is no certificate '{shown}'",
                f'write "{hint}"' if hint else f'write [[certificate]] with name = "{shown}", chain and key',
            )
            return None
        certificate = self.find(name, at)
        if certificate is not None and "client" not in certificate.purposes:
            self._source.warning(
                at,
                f"the certificate '{self._source.shown(at, name)}' is not for clients (its extendedKeyUsage lacks clientAuth)",
                "upstreams will refuse it: have one issued for clients",
            )
        return certificate

    def fitting(self, names: list[str]) -> dict[str, model.Certificate]:
        """For each key type the first that covers all of `names`."""
        chosen: dict[str, model.Certificate] = {}
        for name, (_, certificate) in self._by_name.items():
            if certificate is not None and all(covers(certificate.names, host) for host in names):
                chosen.setdefault(certificate.key_type, certificate)
                self._used.add(name)
        return chosen

    def warn_unused(self) -> None:
        """Warn of those that nobody uses."""
        for name, (path, certificate) in self._by_name.items():
            if certificate is not None and name not in self._used:
                self._source.warning(path, f"certificate '{name}' is not used", "use it, or take it out", at_key=True)
