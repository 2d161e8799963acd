"""What somebody meant who wrote TOML that is none: a text without quotes, a value twice, a missing quote.  Pure."""

from __future__ import annotations

import difflib
import json
import re

_PLACE = re.compile(r"\(at line (\d+), column \d+\)")
_PAIR = re.compile(r"\s*([\w.\"'-]+)\s*=\s*(.*?)\s*(?:#[^\"']*)?$")
_QUOTES = "\"'`\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"  # those of word processors, too
_BOOLEANS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def advice(text: str, message: str) -> str:
    """What to write instead, from the line that tomllib's ``message`` names; "" if nobody can tell."""
    if text.startswith("\ufeff"):
        return "it begins with a byte order mark, which an editor put there: save it as UTF-8 without BOM"
    place = _PLACE.search(message)
    if "twice" in message:
        return "write a table once, with all of its keys below it"
    if "overwrite" in message:
        return "this key is there already; write it once"
    lines = text.splitlines()
    if "end of document" in message:
        line = next((line for line in lines if (pair := _PAIR.match(line)) and _is_open(pair[2])), "")
    else:
        line = lines[int(place[1]) - 1] if place and int(place[1]) <= len(lines) else ""
    pair = _PAIR.match(line)
    if pair is None:
        found = re.match(r"\s*([\w-]+)\s*[: ]\s*([^=]+)$", line)
        return f"write {found[1]} = {_quoted(found[2])}" if found else ""
    return _of_pair(pair[1], pair[2])


def _of_pair(key: str, value: str) -> str:
    if not value:
        return f"{key} has no value"
    if value.startswith("["):
        return _of_list(key, value)
    if word := _boolean(value):
        return f"write {key} = {word}"
    if _is_open(value):
        return f"the text has no closing quote: write {key} = {_quoted(value)}"
    return f"a text stands in quotes: write {key} = {_quoted(value)}"


def _is_open(value: str) -> bool:
    """Does a text begin that does not end?"""
    return value[:1] in ("'", '"') and (len(value) == 1 or not value.endswith(value[0]))


def _boolean(value: str) -> str:
    """true or false, if that was meant."""
    word = value.strip(_QUOTES).lower()
    near = difflib.get_close_matches(word, ("true", "false"), 1, 0.75)
    return _BOOLEANS.get(word, near[0] if near else "")


def _of_list(key: str, value: str) -> str:
    items = [item.strip() for item in value.strip("[]").split(",")]
    if not value.endswith("]"):
        return ""
    written = ", ".join(item if re.fullmatch(r"-?\d+", item) else _quoted(item) for item in items if item)
    return f"texts in a list stand in quotes: write {key} = [{written}]"


def _quoted(value: str) -> str:
    return json.dumps(value.strip().strip(_QUOTES), ensure_ascii=False)
