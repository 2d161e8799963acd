"""What ``smilla init`` writes: the configuration, only what differs from the defaults, each with one line of why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from smilla.config.options import Config
from smilla.config.reader import value_of

HEAD = """\
# Written by smilla init.  Only what differs from the defaults stands here; smilla.toml(5) has every option, and
# "smilla config show" prints all that is in force.  After a change: systemctl reload smilla
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One option: its table ("" for the top level), its value, and why it is written."""

    table: str
    name: str
    value: Any
    why: str


@dataclass(slots=True)
class Plan:
    """What is to be written, and what is known about the MTA."""

    mta: str = ""
    entries: list[Entry] = field(default_factory=list)
    relayed: tuple[str, ...] = ()  # domains that get a rule: encrypt = "never"
    binds_outbound: bool = False  # a rule for outbound mail: no_key = "secure-hop"

    def put(self, name: str, value: Any, why: str) -> None:
        """Sets TABLE.NAME, or NAME of the top level; what was set first stays."""
        table, _, option = name.rpartition(".")
        if not any((entry.table, entry.name) == (table, option) for entry in self.entries):
            self.entries.append(Entry(table, option, value, why))

    def has(self, table: str) -> bool:
        """Is anything of this table set already?"""
        return any(entry.table == table for entry in self.entries)

    def beside(self, name: str, file: str) -> str:
        """A file in the folder of the socket that this option names."""
        table, _, option = name.rpartition(".")
        found = next(entry.value for entry in self.entries if (entry.table, entry.name) == (table, option))
        return f"{str(found).rpartition('/')[0]}/{file}"

    def text(self) -> str:
        """The file."""
        return HEAD + "".join(self._lines())

    def _lines(self) -> Iterator[str]:
        known = Config()
        written = [entry for entry in self.entries if entry.value != _default(known, entry)]
        tables = dict.fromkeys(["", *(entry.table for entry in written)])
        for table in tables:
            if table:
                yield f"\n[{table}]\n"
            for entry in written:
                if entry.table == table:
                    yield f"\n# {entry.why}\n" if not table else f"# {entry.why}\n"
                    yield f"{entry.name} = {_toml(entry.value)}\n"
        if self.relayed:
            yield "\n# The MTA relays for these domains (relay_domains); their own MTA may encrypt.\n"
            yield f'[[rule]]\ndomain = {_toml(self.relayed)}\nencrypt = "never"\n'
        if self.binds_outbound:
            yield "\n# Whoever publishes no key: over a verified hop, or not at all.\n"
            yield '[[rule]]\ndirection = "outbound"\nno_key = "secure-hop"\n'


def _default(known: Config, entry: Entry) -> Any:
    value = getattr(getattr(known, entry.table, known) if entry.table else known, entry.name, None)
    return list(value) if isinstance(value, tuple) and isinstance(entry.value, list) else value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def given(text: str) -> tuple[str, Any]:
    """The option and value of ``--set [TABLE.]NAME=VALUE``; what is no TOML value is a string.  Raises ValueError."""
    name, equals, raw = text.partition("=")
    if not equals or not name.strip() or name.count(".") > 1:
        raise ValueError(f"--set {text}: write TABLE.OPTION=VALUE")
    return name.strip(), value_of(raw)
