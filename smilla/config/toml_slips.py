"""What somebody meant who wrote TOML that is none: a missing quote, comma or bracket, or a wrong one.  Pure.

What may have been meant in several ways has no advice; then the parser's own message stands alone.
"""

from __future__ import annotations

import difflib
import json
import re

_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")
_PAIR = re.compile(r"\s*([\w.\"'-]+)\s*=\s*(.*?)\s*(?:#[^\"']*)?$")
_WITHOUT_SIGN = re.compile(r"\s*([\w-]+)(?:\s*:\s*|\s+)(\"[^\"]*\"|'[^']*'|[^\s=\"']+)\s*(?:#.*)?$")
_TABLE = re.compile(r"\s*[\[({]*\s*([a-z][a-z_]*)\s*[\])}]*\s*[;:,]?\s*(?:#.*)?$")
_TABLE_AND_MORE = re.compile(r"\s*(\[\[?[a-z_]+\]\]?)\s*([\w-]+\s*=.*)$")
_STRING = re.compile(r"\"(?:\\.|[^\"\\])*\"|'[^']*'")
_BARE_ITEM = re.compile(r"\s*([^\s\"',\[\]=#]+)\s*(,?)\s*(?:#.*)?$")
_WHOLE = re.compile(rf"(?:{_STRING.pattern}|true|false|-?\d+)")
_QUOTES = "\"'`\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"  # those of word processors, too
_BOOLEANS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?) ?(s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MANY = "rule"  # the only table of which there are several


def advice(text: str, message: str) -> str:
    """What to write instead, from the place that tomllib's ``message`` names; "" if nobody can tell."""
    if text.startswith("\ufeff"):
        return "it begins with a byte order mark, which an editor put there: save it as UTF-8 without BOM"
    if '"""' in text or "'''" in text:
        return ""
    if "twice" in message:
        return "write a table once, with all of its keys below it"
    if "overwrite" in message:
        return "this key is there already; write it once"
    place = _PLACE.search(message)
    if "(at end of document)" in message:
        return _at_end(text.splitlines(), message)
    return _at_place(text.splitlines(), int(place[1]), int(place[2]), message) if place else ""


def _at_place(lines: list[str], number: int, column: int, message: str) -> str:
    if number > len(lines):
        return ""
    line = lines[number - 1]
    if (comment := line.lstrip()).startswith((";", "//")) and not _open_list(lines[: number - 1]):
        return f"a comment begins with #: write # {comment.lstrip(';/ ')}".rstrip()
    if opened := _open_list(lines[: number - 1]):
        return _within_list(opened, line, column, message)
    if line.lstrip()[:1] in ("[", "(", "{") or "]" in line.partition("=")[0]:
        return _of_table(line)
    return _of_line(line)


def _at_end(lines: list[str], message: str) -> str:
    """What was begun and never ended."""
    if opened := _open_list(lines):
        pair = _PAIR.match(lines[-1])
        if pair is not None and opened == f"{pair[1]}, which begins in line {len(lines)},":
            return f"the list has no closing bracket: write {pair[1]} = {_list(pair[2])}"
        return f"the list of {opened} has no closing ]"
    if "table" in message or "array declaration" in message:
        return _of_table(lines[-1]) if lines else ""
    line = next(
        (line for line in lines if (pair := _PAIR.match(line)) and _is_open(pair[2])), lines[-1] if lines else ""
    )
    return _of_line(line)


def _of_line(line: str) -> str:
    if pair := _PAIR.match(line):
        return _of_pair(pair[1], pair[2])
    if found := _WITHOUT_SIGN.match(line):
        value = found[2] if _WHOLE.fullmatch(found[2]) else _boolean(found[2]) or _quoted(found[2])
        return f"write {found[1]} = {value}"
    return ""


def _of_pair(key: str, value: str) -> str:  # noqa: PLR0911 - one line for each slip
    if not value:
        return f"{key} has no value"
    if (short := value.rstrip(",; ")) != value and _WHOLE.fullmatch(short):
        return f"nothing stands after a value: write {key} = {short}"
    if found := _WITH_UNIT.fullmatch(value):
        return _without_unit(key, float(found[1]), found[2])
    if value[0] in "[({" or _is_list(value):
        return _of_list(key, value)
    if word := _boolean(value):
        return f"write {key} = {word}"
    if _is_open(value):
        return f"the text has no closing quote: write {key} = {_quoted(value)}"
    if value[0] in "\"'":
        return f"a backslash is written twice: write {key} = {_quoted(value)}" if _is_windows(value) else ""
    if key.endswith("_mode") and value.isdecimal():
        return f"a text stands in quotes: write {key} = {_quoted(value)}"
    if (
        "=" in value
        or value.split(maxsplit=1)[0] in ("true", "false")
        or (value[0].isdecimal() and not re.match(r"[\d.:/@a-fA-F-]*[.:/@][\d.:/@\w-]*$", value))
    ):
        return ""
    return f"a text stands in quotes: write {key} = {_quoted(value)}"


def _without_unit(key: str, number: float, unit: str) -> str:
    """Seconds or days, as the name of the option says."""
    theirs = "days" if key.endswith("days") else "seconds" if key.endswith("_s") else ""
    if not theirs:
        return ""
    counted = number * _SECONDS[unit[0].lower()] / (_SECONDS["d"] if theirs == "days" else 1)
    return f"{key} is a number of {theirs}, without a unit: write {key} = {counted:.10g}"


def _is_open(value: str) -> bool:
    """Does a text begin that does not end?"""
    return value[:1] in ("'", '"') and value.count(value[0]) == 1


def _is_windows(value: str) -> bool:
    """A text with backslashes that are not meant to escape anything."""
    inner = value[1:-1]
    return value[0] == value[-1] == '"' and "\\" in inner and '"' not in inner


def _boolean(value: str) -> str:
    """true or false, if that was meant."""
    word = value.strip(_QUOTES).lower()
    near = difflib.get_close_matches(word, ("true", "false"), 1, 0.75)
    return _BOOLEANS.get(word, near[0] if near else "")


# --- lists


def _is_list(value: str) -> bool:
    """Texts with commas between them, or a bracket that only ends."""
    several = rf"(?:{_STRING.pattern})(?:\s*,\s*(?:{_STRING.pattern}))"
    return re.fullmatch(rf"{several}+\s*[\])}}]?|{several}*\s*[\])}}]", value) is not None


def _of_list(key: str, value: str) -> str:
    written = f"write {key} = {_list(value)}"
    if value[0] != "[" or value[-1] != "]":
        is_closed = value[-1] in "])}" or value[0] in "\"'"
        return f"a list stands in square brackets: {written}" if is_closed and "=" not in value else ""
    inner = value.strip("[]")
    items = _items(inner)
    if not all(map(_WHOLE.fullmatch, items)):
        return f"texts in a list stand in quotes: {written}"
    if len(items) > len(inner.split(",")):
        return f"commas stand between the texts of a list: {written}"
    return f"one comma stands between two texts, and one pair of brackets around all: {written}"


def _items(inner: str) -> list[str]:
    """What stands between commas or, where one is missing, between blanks."""
    return [item for part in re.split("[,;]", inner) for item in part.split()]


def _list(value: str) -> str:
    items = [item for item in _items(value.strip("[](){} ")) if item.strip(_QUOTES)]
    return f"[{', '.join(item if re.fullmatch(r'-?[0-9]+', item) else _quoted(item) for item in items)}]"


def _open_list(lines: list[str]) -> str:
    """The key of a list that goes on below these lines, and where it begins; "" if there is none."""
    depth, opened = 0, ""
    for number, line in enumerate(lines, 1):
        bare = _STRING.sub("", line).partition("#")[0]
        if not depth:
            key, _, bare = bare.partition("=")
            opened = f"{key.strip()}, which begins in line {number},"
        depth += bare.count("[") - bare.count("]")
    return opened if depth > 0 else ""


def _within_list(opened: str, line: str, column: int, message: str) -> str:
    """A list on several lines."""
    if re.match(r"\s*\[\[?\w+\]", line) or re.match(r"\s*[\w.-]+\s*=", line):
        return f"the list of {opened} has no closing ]"
    rest = line[column - 1 :].strip()
    if (item := _BARE_ITEM.match(line)) and item[1][0] not in "(){}":
        return f"texts in a list stand in quotes: write {_quoted(item[1])}{item[2]}"
    if message.startswith("Unclosed array") and (found := _STRING.match(rest)):
        return f"a comma is missing before {found[0]}"
    return ""


# --- the names of tables


def _of_table(line: str) -> str:
    if more := _TABLE_AND_MORE.match(line):
        return f"the name of a table stands alone in its line: write {more[1]}, and {more[2].strip()} below it"
    if found := _TABLE.match(line):
        brackets = "[[{}]]" if found[1] == _MANY else "[{}]"
        return f"the name of a table stands in brackets: write {brackets.format(found[1])}"
    return ""


def _quoted(value: str) -> str:
    return json.dumps(value.strip().strip(_QUOTES), ensure_ascii=False)
