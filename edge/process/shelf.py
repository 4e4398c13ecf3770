"""The shelf: the OCSP answers that the supervisor has, by certID, each verified by itself before it was put there.

They come from the folder of the state directory, from the program before this one, and from the controller. None of these is
trusted: what is not good for a certificate in use, now, is left out (`edge.tls.ocsp`).
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from edge.process.staple_files import StapleFiles
from edge.settings.model import Settings
from edge.settings.ocsp import Stapled, stapled
from edge.tls.ocsp import Answer, OcspError, Question, question, verify
from edge.tls.staples import Staple

__all__ = ["Shelf"]


class Shelf:
    """`questions` are those about the certificates that were looked at last, by fingerprint; or why there is none to be asked."""

    def __init__(self, files: StapleFiles) -> None:
        self.files = files
        self.questions: dict[str, Question | OcspError] = {}
        self.answers: dict[str, Answer] = {}  # by certID
        self._by_key: dict[str, Question] = {}

    def look_at(self, *several: Settings, now: float) -> None:
        """Have the certificates of these settings on the shelf and no others; for new ones, see what was kept."""
        wanted = {fingerprint: one for settings in several for fingerprint, one in stapled(settings).items()}
        self.questions = {name: self.questions.get(name) or _question(one) for name, one in wanted.items() if one.responders}
        before = self._by_key
        self._by_key = {one.key: one for one in self.questions.values() if isinstance(one, Question)}
        self.answers = {key: answer for key, answer in self.answers.items() if key in self._by_key}
        for key in self._by_key.keys() - before.keys() - self.answers.keys():
            try:
                kept = self.files.read(key)
                if kept is not None:
                    self.put(key, kept, now)
            except (OSError, OcspError):
                continue  # it is fetched

    def knows(self, key: str) -> bool:
        """Whether it is the certID of a certificate that was looked at."""
        return key in self._by_key

    def put(self, key: str, response: bytes, now: float) -> None:
        """Take an answer, unless there is a later one: whoever stands between may replay what was once good.

        Raises OcspError: it is not good, or about a certificate that nobody uses.
        """
        asked = self._by_key.get(key)
        if asked is None:
            raise OcspError("wrong-certificate", "nobody has asked")
        answer, held = verify(asked, response, now), self.answers.get(key)
        if held is None or held.until <= now or held.this_update <= answer.this_update:
            self.answers[key] = answer

    def find(self, fingerprint: str, now: float) -> Answer | None:
        """The answer about a certificate, if it is good now."""
        asked = self.questions.get(fingerprint)
        answer = self.answers.get(asked.key) if isinstance(asked, Question) else None
        return answer if answer is not None and answer.until > now else None

    def staples(self, now: float) -> dict[str, Staple]:
        """For workers: what is good, by fingerprint."""
        found = ((fingerprint, self.find(fingerprint, now)) for fingerprint in self.questions)
        return {fingerprint: Staple(one.response, one.until) for fingerprint, one in found if one is not None}

    # to another program

    def pack(self) -> bytes:
        """For the program that takes over."""
        return orjson.dumps({key: answer.response.hex() for key, answer in self.answers.items()})

    def adopt(self, data: bytes, now: float) -> None:
        """Take what `pack` gave, as far as it is good. Never raises."""
        try:
            told = orjson.loads(data)
        except ValueError:
            return
        for key, text in told.items() if isinstance(told, Mapping) else ():
            try:
                self.put(key, bytes.fromhex(text), now)
            except (OcspError, ValueError, TypeError):
                continue


def _question(one: Stapled) -> Question | OcspError:
    try:
        return question(one.certificate.chain_pem)
    except OcspError as error:
        return error
