"""The corpus of HTTP/2 dialogues and random changes to it: what must hold for any bytes, whole and in pieces."""

from __future__ import annotations

import random

import pytest

from .h2_oracles import CORPUS, check, dialogues, load, mutate

FILES = sorted(CORPUS.glob("*.hex"))


@pytest.mark.parametrize("name", [path.name for path in FILES])
def test_the_corpus(name: str) -> None:
    data = load(CORPUS / name)
    for seed in range(5):
        check(data, client=name.startswith("server-"), seed=seed)


@pytest.mark.parametrize("role", ["client", "server"])
def test_changes_to_the_corpus(role: str) -> None:
    chance = random.Random(5)
    pool = dialogues(role)
    for _ in range(600):
        check(mutate(chance.choice(pool), chance, pool), client=role == "server", seed=chance.randrange(100))
