"""Values that nobody changes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from smilla.model import Client, Message
from smilla.session import Session


def test_values_are_frozen_in_the_tests() -> None:
    message: Message = Session(Client(), "").message
    with pytest.raises(FrozenInstanceError):
        message.headers = ()  # type: ignore[misc]


def test_values_are_compared_and_hashed_alike_in_production() -> None:
    code = (
        "from smilla.model import Header, Reason; one, other = Reason('a', 'b'), Reason('a', 'b'); "
        "assert one == other and hash(one) == hash(other) and one != Reason('a', 'c'); "
        "assert Header(b'To', b' x') == Header(b'To', b' x'); one.code = 'c'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
