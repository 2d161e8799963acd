"""The corpus through ``smilla mailbox encrypt`` and ``decrypt``: whatever is encrypted comes back octet for octet."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.interop.corpus import FOLDER, samples
from tests.lab.programs import require_nothing_missing
from tests.unit.mailbox.test_encrypting_back import OWNERS, Turns

pytestmark = pytest.mark.interop

AT_LEAST, MOST_LEFT = 300, 3  # most of those that are left have a last field without a line end


@pytest.mark.parametrize("form", sorted(OWNERS))
def test_every_message_comes_back_octet_for_octet(form: str, tmp_path: Path) -> None:
    require_nothing_missing([] if (FOLDER / "VERSIONS").exists() else ["the corpus (tests/setup/corpus)"])
    turns = Turns(tmp_path, OWNERS[form])
    fates: Counter[str] = Counter()
    for sample in samples():
        for octets in {sample.octets, sample.octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")}:
            fates[turns.check(octets)] += 1
    print(f"corpus in a mailbox, {form}: {dict(fates)}")
    assert fates.keys() <= {"there and back", "not_exact", "already_encrypted"}
    assert fates["there and back"] >= AT_LEAST
    assert fates["not_exact"] <= 2 * MOST_LEFT
