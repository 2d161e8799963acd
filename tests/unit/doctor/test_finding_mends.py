"""Whatever line of the doctor begins with a command can be pasted into a shell: remarks stand in the reason why."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import smilla.doctor

# A mend that begins with none of these is a line of a configuration, or words.
COMMANDS = (
    *("apt-get", "chgrp", "chmod", "chown", "install", "kill", "mv", "pip", "postconf", "postfix", "ss", "systemctl"),
    *("timedatectl", "unbound-control", "useradd"),
)
BETWEEN = ("&&", ";", "||")


def texts() -> Iterator[tuple[str, str]]:
    """Each text in the doctor's code that begins with a command, with x for what is put in, and where it stands."""
    for path in sorted(Path(smilla.doctor.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in (each for each in ast.walk(tree) if isinstance(each, ast.expr)):
            text = ""
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)  # type: ignore[misc]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
                text = node.value
            if re.match(rf"({'|'.join(COMMANDS)}) \S", text):
                yield f"{path.name}:{node.lineno}", text


def problem(text: str) -> str:
    """Why a shell would not take this line, or would take a remark for a command; "" if it is one or more commands."""
    checked = subprocess.run(["bash", "-n", "-c", text], capture_output=True, text=True, check=False)
    if checked.returncode:
        return checked.stderr.strip()
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    is_first = True
    for word in lexer:
        if is_first and word not in COMMANDS:
            return f"{word} is no command"
        if word.endswith(","):
            return f"{word} is a remark"
        is_first = word in BETWEEN
    return ""


def test_what_begins_with_a_command_can_be_pasted() -> None:
    found = dict(texts())
    assert len(found) > 8, found
    assert {place: told for place, text in found.items() if (told := problem(text))} == {}


def test_remarks_in_a_line_are_seen() -> None:
    for text in (
        "install -d -o x -g postfix -m 2750 /run/x (the group is the MTA's)",
        "install -d /run/x, then restart smilla",
        "install -d /run/x; smilla, then restart smilla",
        "mv x /root/; for its public part: openssl x509",
        "chown x /y && and so on",
    ):
        assert problem(text), text
    assert problem("install -d /run/x && systemctl restart smilla") == ""
