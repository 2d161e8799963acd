"""The key files that rules name: what the gate says of each today, and what does not belong there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from smilla.address import EmailAddress
from smilla.config import Config
from smilla.doctor import private_file
from smilla.doctor.finding import Finding, Kind, error, fine
from smilla.keys import lookup
from smilla.keys.discovery import directory, rule
from smilla.ports import Ports

_ANYBODY = EmailAddress("", "", "")  # the key need not name the recipient


def problems(settings: Config, ports: Ports) -> Iterator[Finding]:
    """Errors, since mail to everybody whom the rule matches is refused or deferred; nothing if no rule has a key."""
    for number, each in enumerate(settings.rule, 1):
        if not each.key:
            continue
        subject, path = f"rule {number}: key {each.key}", Path(each.key)
        found = list(rule.problems(each.key, ports.read_key_file))
        for problem in found:
            if problem == directory.PRIVATE:
                mend, why = private_file.mend(str(path.parent), path.name, each.key)
                yield error(Kind.PRIVATE_KEY, subject, problem, mend, why)
            else:
                yield error(Kind.KEY_FILE, subject, problem)
        judged = lookup.finish(
            lookup.begin_of_rule(_ANYBODY, each.key, ports, settings), 0.0, ports.clock.now(), ports, each.formats
        )
        if judged.key is not None:
            yield fine(Kind.KEY_FILE, subject, judged.reason.text)
        elif not found:
            yield error(Kind.KEY_FILE, subject, f"{judged.verdict.value}: {judged.reason.text}")
