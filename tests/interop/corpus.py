"""Messages from the public test suites that tests/setup/corpus fetches."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.interop.readers.base import ROOT

FOLDER = ROOT / ".cache/corpus"
_SUITES = {
    "notmuch": "*/test/corpora/**/*",
    "rspamd": "*/test/functional/messages/**/*",
    "cpython": "**/test_email/data/msg_*.txt",
    "mail-parser": "*/tests/mails/*",
    "django-mailbox": "*/django_mailbox/tests/messages/*.eml",
    "kmime": "*/autotests/data/mails/*.mbox",
}
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")


@dataclass(frozen=True)
class Sample:
    """A file of a suite as a message, without the line that opens a mailbox."""

    suite: str
    name: str
    octets: bytes


def samples() -> list[Sample]:
    """Every file that begins with a header field, each content once."""
    found: dict[bytes, Sample] = {}
    for suite, pattern in _SUITES.items():
        for path in sorted((FOLDER / suite).glob(pattern)):
            if path.is_file() and not path.name.startswith(("README", ".")):
                octets = path.read_bytes()
                if octets.startswith(b"From "):
                    octets = octets.partition(b"\n")[2]
                if _FIELD.match(octets):
                    found.setdefault(octets, Sample(suite, str(path.relative_to(FOLDER)), octets))
    return list(found.values())
