"""The corpus as S/MIME; a file of its own, so that it can run beside the other format."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.interop.corpus_run import judge

pytestmark = pytest.mark.interop


def test_every_message_opens_octet_for_octet_in_two_programs() -> None:
    with tempfile.TemporaryDirectory(prefix="smilla-", ignore_cleanup_errors=True) as folder:
        judge("smime", Path(folder))
