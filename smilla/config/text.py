"""The configuration as text, all made from the dataclasses in options/: the commented sample, the effective
configuration, and the OPTIONS section of smilla.toml(5)."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from smilla.config.options import SECTIONS, Circle, Config, DecryptRule, Rule, default_action, options_of
from smilla.model import Direction

_RULES = (
    "For each recipient, only the first rule whose conditions (recipient, sender, domain, client, user, direction) "
    "all hold applies. What it does not name comes from [policy], never from a later rule. "
    "smilla explain shows the table."
)
_CIRCLES = "A closed network of mail servers that trust one authority, for secure-hop; see smilla-hops(7)."
_DECRYPTED = (
    "Recipients for whom smilla decrypt decrypts, and with which keys; the first that matches; see smilla-decrypt(8)."
)
_OF_ARRAYS = {Rule: ("rule", _RULES), Circle: ("circle", _CIRCLES), DecryptRule: ("decrypt_rule", _DECRYPTED)}
_EXAMPLES = {
    Rule: """\
#[[rule]]
#recipient = "*@example.org"
#no_key = "refuse"
""",
    Circle: """\
#[[circle]]
#name = "ours"
#domains = ["example.org", "*.example.org"]
#ca_file = "/etc/smilla/circle.pem"
""",
    DecryptRule: """\
#[[decrypt_rule]]
#recipient = "tickets@example.org"
#key_files = ["/etc/smilla-decrypt/tickets.p12"]
""",
}


def sample() -> str:
    """A commented sample with every option at its default."""
    lines = ["# smilla.toml, see smilla.toml(5).  Every option is shown with its default.", ""]
    lines += _section_lines(Config, Config(), commented=True)
    for name, kind in SECTIONS.items():
        if kind in _OF_ARRAYS:
            lines += ["", *_array_lines(kind)]
        else:
            lines += ["", f"# {kind.__doc__}", f"[{name}]", *_section_lines(kind, kind(), commented=True)]
    return "\n".join(lines) + "\n"


def _array_lines(kind: type[Any]) -> Iterator[str]:
    table, what = _OF_ARRAYS[kind]
    yield from textwrap.wrap(f"[[{table}]]: {what}", 100, initial_indent="# ", subsequent_indent="# ")
    yield from _EXAMPLES[kind].splitlines()
    yield "#"
    for name, field in options_of(kind).items():
        yield from textwrap.wrap(f"{name}: {_help(field)}", 100, initial_indent="#   ", subsequent_indent="#     ")


def show(config: Config) -> str:
    """The effective configuration as TOML."""
    if config.mode != "auto":
        default = default_action(Direction.INBOUND if config.mode == "inbound" else Direction.OUTBOUND)
        unset = {name: default for name in ("unclear", "unusable_key") if not getattr(config.policy, name)}
        config = dataclasses.replace(config, policy=dataclasses.replace(config.policy, **unset))
    lines = list(_section_lines(Config, config, commented=False))
    for name, kind in SECTIONS.items():
        if kind not in _OF_ARRAYS:
            lines += ["", f"[{name}]", *_section_lines(kind, getattr(config, name), commented=False)]
    for kind, (name, _) in _OF_ARRAYS.items():
        for table in getattr(config, name):
            lines += ["", f"[[{name}]]"]
            lines += [f"{n} = {_toml(getattr(table, n))}" for n in options_of(kind) if getattr(table, n)]
    return "\n".join(lines) + "\n"


def _section_lines(kind: type[Any], values: Any, *, commented: bool) -> Iterator[str]:
    for name, field in options_of(kind).items():
        if commented:
            yield from textwrap.wrap(_help(field), 100, initial_indent="# ", subsequent_indent="# ")
        yield f"{name} = {_toml(getattr(values, name))}"


def _help(field: dataclasses.Field[Any]) -> str:
    text = str(field.metadata["help"])
    if choices := [choice for choice in field.metadata.get("choices", ()) if choice]:
        text += f" One of {', '.join(choices)}."
    if "minimum" in field.metadata:
        text += f" From {field.metadata['minimum']} to {field.metadata['maximum']}."
    return text


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    # JSON allows a bare DEL, TOML does not.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def manual() -> str:
    """The options in mdoc(7), for smilla.toml(5)."""
    lines: list[str] = []
    for name, kind in [("", Config), *SECTIONS.items()]:
        title = "Top level" if not name else f"Table {name}" + (", any number of times" if kind in _OF_ARRAYS else "")
        lines += [
            f".Ss {title}",
            *(_sentences(_OF_ARRAYS[kind][1]) if kind in _OF_ARRAYS else ()),
            ".Bl -tag -width Ds",
        ]
        for option, field in options_of(kind).items():
            lines += [f".It Cm {option} Li = {_mdoc(_toml(field.default))}"]
            lines += _sentences(_help(field))
        lines += [".El"]
    return "\n".join(lines) + "\n"


def _sentences(text: str) -> Iterator[str]:
    """Each on a line of its own, as mdoc(7) asks."""
    for sentence in re.split(r"(?<=[.:;]) +(?=[A-Z])", text):
        yield from (_mdoc(line) for line in textwrap.wrap(sentence, 76, break_on_hyphens=False))


def _mdoc(text: str) -> str:
    """The text, escaped so that roff sees no request and no escape in it."""
    escaped = text.replace("\\", "\\e").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
