"""The list of SMTP replies in smilla(8), DIAGNOSTICS: whoever is quoted a reply finds it there by its words."""

from __future__ import annotations

import re

from smilla.answer import reply

_LOOKS_LIKE_MACRO = re.compile(r"[A-Z][a-z]|\W+")
_BEGIN, _END = '.\\" replies: made by man/make from smilla/answer/reply.py\n', '.\\" end of replies\n'

# What to do about the replies that stand for no reason of a recipient.
_ADVICE = {
    reply.INTERNAL: "See .Cm internal-error in the log.",
    reply.TOO_MANY: "See .Cm max_copies of the section .Bq reinject in .Xr smilla.toml 5 .",
    reply.HANDOVER: "See .Cm copy-failed in the log.",
    reply.JOURNAL: "See .Cm journal-failed in the log.",
    reply.BUSY: "Nothing needs to be done: the client sent the message twice at once.",
    reply.TOO_LARGE: "See .Cm too_large .",
    reply.NOT_READY: "See .Cm stage-not-ready in the log, which names what is missing.",
    reply.NO_QUARANTINE: "The relay has no quarantine, so no action may be .Li hold .",
    reply.LOOP: "What the next hop sends on comes back to the relay: see .Xr smilla-relay 8 .",
    reply.SEAL_KEY: "See .Cm seal-key-missing .",
    reply.SEAL_BROKEN: "See .Cm seal-broken .",
    reply.SEAL_REFUSED: "See .Cm seal-broken .",
    reply.STOPPING: "Nothing needs to be done: the client tries again.",
}


def within(page: str) -> str:
    """The page with its list of replies as the code has them.  Raises ValueError where it has no place for them."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError("man/smilla.8 has lost the comments between which the list of replies stands")
    return before + begin + _listed() + end + after


def _listed() -> str:
    entries = [_entry(answer.line, advice) for answer, advice in _ADVICE.items()]
    entries.append(_entry(reply.for_refusal("550 ...").line, "See .Cm copy-failed in the log."))
    texts: dict[str, list[str]] = {}
    for code, text in reply.TEXTS.items():
        texts.setdefault(text, []).append(code)
    entries += [_entry(text, _reasons(codes)) for text, codes in texts.items()]
    entries.append(_entry(reply.UNUSABLE, "Any other reason: the line of the log names it."))
    return ".Bl -tag -width Ds\n" + "".join(entries) + ".El\n"


def _reasons(codes: list[str]) -> str:
    *first, last = codes
    named = "".join(f" .Cm {code} ," for code in first) + (" or" if first else "") + f" .Cm {last} ."
    return "Reason" + named


def _entry(text: str, advice: str) -> str:
    """A term, and a sentence whose macros begin with a dot."""
    lines = re.sub(r" (?=\.[A-Z][a-z] )", "\n", advice)
    lines = re.sub(r"^(\.(?:Cm|Bq|Xr) \S+(?: \d)?) (?=[a-z])", r"\1\n", lines, flags=re.MULTILINE)
    return f".It Dq {_quoted(text)}\n{lines}\n"


def _quoted(text: str) -> str:
    """Words that no macro mistakes for one, nor for punctuation."""
    return " ".join(f"\\&{word}" if _LOOKS_LIKE_MACRO.fullmatch(word) else word for word in text.split())
