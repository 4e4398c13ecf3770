"""Each kind of transport has the hot methods as code of its own."""

from __future__ import annotations

import pytest

from edge.net.client import ClientTransport
from edge.net.transport import _HOT, Transport


@pytest.mark.parametrize("name", _HOT)
def test_the_text_is_one_and_the_code_is_not(name: str) -> None:
    ours, theirs = getattr(ClientTransport, name), getattr(Transport, name)
    assert ours.__code__ is not theirs.__code__
    assert ours.__code__ == theirs.__code__
    assert ours.__doc__ == theirs.__doc__
