"""Authentication-Results fields (RFC 8601): whether one claims a result of our own, and how one is written.

Promises: nothing is raised, whatever octets a field has, and the work grows with its length alone.

``may_claim`` decides which fields of others are removed, so it must not be fooled, and must not take a verifier's
result for another one:

- The authserv-id is read by the grammar of section 2.2: comments, folding, a quoted string, a version after it.  It is
  compared without regard to case, since it is nearly always a host name; a final dot does not matter.
- If the field is another server's, it claims nothing, whatever stands in its comments and quoted strings.
- If it is ours, each method in it counts.  A missing semicolon is forgiven, because programs forgive it.
- If the authserv-id cannot be read, or a field of ours cannot be, nobody knows what a program will see there: then it
  claims the result as soon as it mentions the method.

What others do: RFC 8601 section 5 has a border MTA remove each field that claims its authserv-id.  OpenDKIM removes
those with its own method, or by option all; rspamd all fields, whoever they name; OpenDMARC none.  What we do: only the
fields with our method go, because the verifiers before us in the same MTA have written theirs with the same
authserv-id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

from smilla.errors import ParseError

NAME = "Authentication-Results"
_LONGEST = 60_000  # octets; the milter protocol cuts a longer field, and nobody knows what was cut off
_LONGEST_OF_OURS, _MOST_LEXEMES, _MOST_RESULTS = 4096, 500, 15  # OpenDKIM: 512 words and 16 results
_BLANK = re.compile(r"[ \t\r\n]+")
_WORD = re.compile(r"[!#$%&'*+\-.^_`{|}~0-9A-Za-z]+")  # a token (RFC 2045 section 5.1)
_QUOTED = re.compile(r'"((?:[^"\\\0]|\\[^\0])*)"')
_COMMENT_PART = re.compile(r"\\.|[()]", re.DOTALL)
_SIGN = re.compile(r"[;=/@:,?<>\[\]]")
_KEY = re.compile(r"(?:^|[; ]) ?([A-Za-z0-9-]+) ?(?:/ ?\d+ ?)?=")
_PLAIN_HEAD = re.compile(r"[ \t\r\n]*([^ \t\r\n;()\"]+)(?:[ \t\r\n]+\d+)?[ \t\r\n]*(?:;|$)")
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,60}(?:/[0-9]{1,9})?")
_VALUE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ADDRESS = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,253}")


class Result(NamedTuple):
    """One result: method and result in lower case, and its properties in order, their names in lower case.  The value
    of a property is without quotes."""

    method: str
    result: str
    properties: tuple[tuple[str, str], ...] = ()

    def named(self, name: str) -> tuple[str, ...]:
        """The values of a property."""
        return tuple(value for known, value in self.properties if known == name)


class _Lexeme(NamedTuple):
    """``kind`` is blank, word, quoted or sign; a comment is blank."""

    kind: str
    text: str
    is_comment: bool = False


_SEMICOLON, _EQUALS = _Lexeme("sign", ";"), _Lexeme("sign", "=")


def may_claim(raw_value: bytes, authserv_id: str, method: str) -> bool:
    """Has the field, or may a program take it to have, a result of this method by this server?"""
    if not _mentions(raw_value, method):
        return False
    lexemes = _lexemes(raw_value.decode("latin-1"))
    try:
        named = _authserv_id(lexemes)
        if len(raw_value) > _LONGEST and _is_same(named, authserv_id):
            return True
        return _is_same(named, authserv_id) and method.lower() in _keys(list(lexemes))
    except ParseError:
        return True


def _mentions(raw_value: bytes, method: str) -> bool:
    """May the name of the method stand in it?  Some programs drop a comment inside a word, and some decode RFC 2047."""
    wanted, raw = method.lower().encode("ascii"), raw_value.lower()
    if wanted in raw or b"=?" in raw or len(raw) > _LONGEST:
        return True
    return b"(" in raw and all(word in raw for word in (wanted[:1], wanted[-1:])) and wanted in _without_comments(raw)


def _without_comments(raw: bytes) -> bytes:
    try:
        return "".join(x.text for x in _lexemes(raw.decode("latin-1")) if not x.is_comment).encode("latin-1")
    except ParseError:
        return raw


def _is_same(one: str, other: str) -> bool:
    return one.lower().rstrip(".") == other.lower().rstrip(".")


def _lexemes(text: str) -> Iterator[_Lexeme]:
    """Raises ParseError at what no grammar of the field allows: controls, a quoted string or a comment without its end,
    a backslash or a closing parenthesis outside them, octets that are not ASCII outside them."""
    position = 0
    while position < len(text):
        if text[position] == "(":
            end = _end_of_comment(text, position)
            yield _Lexeme("blank", " ", is_comment=True)
        elif found := _BLANK.match(text, position):
            yield _Lexeme("blank", " ")
            end = found.end()
        elif found := _WORD.match(text, position):
            yield _Lexeme("word", found[0])
            end = found.end()
        elif found := _QUOTED.match(text, position):
            yield _Lexeme("quoted", re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL))
            end = found.end()
        elif found := _SIGN.match(text, position):
            yield _Lexeme("sign", found[0])
            end = found.end()
        else:
            raise ParseError("a character that the field's grammar does not allow")
        position = end


def _end_of_comment(text: str, start: int) -> int:
    """Comments nest (RFC 5322 section 3.2.2).  Raises ParseError if it has no end."""
    depth = 0
    for part in _COMMENT_PART.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(part[0], 0)
        if not depth:
            return part.end()
    raise ParseError("a comment without its end")


def _authserv_id(lexemes: Iterator[_Lexeme]) -> str:
    """Takes the lexemes up to and including the first semicolon.  Raises ParseError."""
    head = list(takewhile(lambda lexeme: (lexeme.kind, lexeme.text) != ("sign", ";"), lexemes))
    shape = "".join({"blank": " ", "word": "w", "quoted": "q", "sign": "s"}[lexeme.kind] for lexeme in head)
    if not re.fullmatch(r" *[wq](?: +w)? *", shape):
        raise ParseError("no authserv-id")
    named, *version = (lexeme.text for lexeme in head if lexeme.kind != "blank")
    if version and not version[0].isdigit():
        raise ParseError("an authserv-id of two words")
    if not named.isascii():
        raise ParseError("an authserv-id that is not ASCII, which programs compare in different ways")
    return named


def _keys(lexemes: Iterable[_Lexeme]) -> set[str]:
    """What stands before an equals sign at the beginning of a result, or after a blank: methods and properties."""
    found: set[str] = set()
    for comment in (" ", ""):
        shown = (comment if x.is_comment else '""' if x.kind == "quoted" else x.text for x in lexemes)
        text = re.sub(" +", " ", "".join(shown))
        found |= {key.lower() for key in _KEY.findall(text)}
    return found


# --- reading what our own verifiers say --------------------------------------------------------------------


def results_of(raw_value: bytes, authserv_id: str) -> tuple[Result, ...]:
    """The results in a field of this server; () if the field is another's, or has none.  Raises ParseError if it is
    ours and does not keep to the grammar (section 2.2), or if nobody can tell whose it is: nothing may rest on it.  Nor
    on one that a verifier would not write: a client may have written it so that the verifiers, which must remove it, do
    not know it.  OpenDKIM leaves a field whose authserv-id has a final dot, and one with more words or results than it
    has room for."""
    if len(raw_value) > _LONGEST:
        raise ParseError("a field that may have been cut off")
    text = raw_value.decode("latin-1")
    lexemes = _lexemes(text)
    if not _is_same(_authserv_id(lexemes), authserv_id):
        return ()
    head = _PLAIN_HEAD.match(text)
    if head is None or head[1].lower() != authserv_id.lower():
        raise ParseError("an authserv-id that is written as no verifier writes it")
    found = list(lexemes)
    if len(text) > _LONGEST_OF_OURS or len(found) > _MOST_LEXEMES:
        raise ParseError("a field that is larger than a verifier's")
    results = [_result(runs) for runs in _resinfos(found)]
    if len(results) > _MOST_RESULTS:
        raise ParseError("a field that has more results than a verifier's")
    return tuple(result for result in results if result is not None)


def _resinfos(lexemes: Sequence[_Lexeme]) -> Iterator[list[list[_Lexeme]]]:
    """Between semicolons: runs of lexemes without a blank between them; one beside an equals sign separates nothing."""
    runs: list[list[_Lexeme]] = [[]]
    for lexeme in lexemes:
        if lexeme == _SEMICOLON:
            yield [run for run in runs if run]
            runs = [[]]
        elif lexeme.kind != "blank":
            if lexeme == _EQUALS and not runs[-1] and len(runs) > 1:
                runs.pop()
            runs[-1].append(lexeme)
        elif runs[-1] and runs[-1][-1] != _EQUALS:
            runs.append([])
    yield [run for run in runs if run]


def _result(runs: Sequence[Sequence[_Lexeme]]) -> Result | None:
    """None for "none", which says that there is no result."""
    if not runs or [lexeme.text.lower() for lexeme in runs[0]] == ["none"]:
        return None
    method, result = _pair(runs[0])
    if not _KEYWORD.fullmatch(method) or not _KEYWORD.fullmatch(result):
        raise ParseError("a result that is no method with its result")
    properties = tuple(_pair(run) for run in runs[1:])
    return Result(method.partition("/")[0].lower(), result.lower(), properties)


def _pair(run: Sequence[_Lexeme]) -> tuple[str, str]:
    """What stands before the first equals sign, in lower case, and after it."""
    if _EQUALS not in run:
        raise ParseError("a word without a value")
    at = run.index(_EQUALS)
    name = "".join(lexeme.text for lexeme in run[:at])
    if not name or any(lexeme.kind == "quoted" for lexeme in run[:at]):
        raise ParseError("a value without a name")
    return name.lower(), "".join(lexeme.text for lexeme in run[at + 1 :])


# --- writing -----------------------------------------------------------------------------------------------


def is_value(text: str) -> bool:
    """Is it a value that needs no quoting, and that no reader can take for anything else?"""
    return _VALUE.fullmatch(text) is not None


def _is_bare(text: str) -> bool:
    """Or an address that needs no quoting (RFC 8601 section 2.2, pvalue)."""
    return is_value(text) or _ADDRESS.fullmatch(text) is not None


def written(authserv_id: str, method: str, result: str, properties: Iterable[tuple[str, str]]) -> str:
    """The value of a field with one result, folded once.  A property whose value is empty, or would need quoting, is
    left out: it comes from outside."""
    told = [f"{method}={result}", *(f"{name}={value}" for name, value in properties if _is_bare(value))]
    return f"{authserv_id};\r\n\t{' '.join(told)}"
