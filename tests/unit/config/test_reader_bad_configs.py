"""Broken configurations, a file each: the first comment lines are the errors, every one, word for word.

An error says where the fault is, what is wrong and, where that is not plain, what to write instead.
"""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import pytest

from smilla.config import parse
from smilla.errors import ConfigError

FOLDER = Path(__file__).parents[2] / "bad_configs"
FILES = sorted(FOLDER.iterdir())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_fault_of_a_broken_configuration_is_named(path: Path) -> None:
    text = path.read_text("utf-8")
    expected = [line.removeprefix("# ") for line in takewhile(bool, text.splitlines())]
    assert expected
    with pytest.raises(ConfigError) as caught:
        parse(text, path.name)
    assert list(caught.value.faults) == expected


def test_each_broken_configuration_has_a_fault_of_its_own() -> None:
    texts = [path.read_text("utf-8").partition("\n\n")[2] for path in FILES]
    assert len(set(texts)) == len(texts) >= 104
