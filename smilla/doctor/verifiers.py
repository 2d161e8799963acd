"""What the verifiers before smilla do with Authentication-Results fields that claim our authserv-id, judged by their
configuration files.

What each does (tried with OpenDKIM 2.11 and OpenDMARC 1.4.2; rspamd 3.4 by its source):

- OpenDKIM removes fields of its AuthservID, or of RemoveARFrom, if they have a dkim result; with RemoveARAll all of
  RemoveARFrom; with KeepAuthResults none.
- OpenDMARC removes none.
- rspamd removes every field, whoever it names, where milter_headers uses authentication-results; another ``remove``
  than 0 changes that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_RSPAMD = re.compile(r"rspamd|:11332\b", re.IGNORECASE)
_YES = ("yes", "true", "1", "on")
_HOST = re.compile(r"inet6?:\d+")


class Removes(StrEnum):
    """Which forged fields of our authserv-id go."""

    ALL = "all"
    DKIM = "those with a dkim result"
    NONE = "none"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verifier:
    """One milter: its program, "" if it is not known, what it removes, and why nobody can tell, if so."""

    program: str
    removes: Removes
    why: str = ""


def judged(place: str, is_place: Callable[[str], bool], authserv_id: str, root: Path = Path("/")) -> Verifier:
    """The milter at ``place``, as the MTA names it.  ``is_place`` says whether a socket in libmilter's notation is the
    same.  Raises nothing."""
    if _RSPAMD.search(place):
        return _rspamd(authserv_id, root)
    unreadable = []
    for program, judge in (("opendkim", _opendkim), ("opendmarc", _opendmarc)):
        path = root / f"etc/{program}.conf"
        try:
            options = _options(path.read_text("utf-8", "replace"))
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable.append(f"{path} cannot be read: {error.strerror}")
            continue
        if is_place(_socket(options.get("socket", ""))):
            return judge(options, authserv_id)
    why = "; ".join(unreadable) or "no configuration file that is known here names its socket"
    return Verifier("", Removes.UNKNOWN, why)


def _options(text: str) -> Mapping[str, str]:
    """Of OpenDKIM's and OpenDMARC's files: a name, blanks and a value; names without regard to case."""
    lines = (line.partition("#")[0].split(None, 1) for line in text.splitlines())
    return {words[0].lower(): words[1].strip() for words in lines if len(words) == 2}


def _socket(text: str) -> str:
    """In libmilter's notation, which both take without a host (every address) or a kind (a path)."""
    if text.startswith("/"):
        return f"local:{text}"
    return f"{text}@localhost" if _HOST.fullmatch(text) else text


def _is_on(options: Mapping[str, str], name: str) -> bool:
    return options.get(name, "").lower() in _YES


def _opendkim(options: Mapping[str, str], authserv_id: str) -> Verifier:
    named, source = options.get("authservid", ""), options.get("removearfrom", "").lower()
    if "v" not in options.get("mode", "sv"):
        return Verifier("OpenDKIM", Removes.NONE, "its Mode has no v, so it does not verify")
    if _is_on(options, "keepauthresults"):
        return Verifier("OpenDKIM", Removes.NONE, "KeepAuthResults")
    if not source.startswith("csl:") and {"/", ":"} & set(source):
        return Verifier("OpenDKIM", Removes.UNKNOWN, f"RemoveARFrom is in {source}, which was not read")
    hosts = [host.strip() for host in source.removeprefix("csl:").split(",")]
    is_listed = any(_covers(host, authserv_id.lower()) for host in hosts if host)
    if is_listed or named.lower() == authserv_id.lower():
        return Verifier("OpenDKIM", Removes.ALL if is_listed and _is_on(options, "removearall") else Removes.DKIM)
    is_known = named not in ("", "HOSTNAME")
    why = f"its AuthservID is {named or 'not set: the name of the MTA'}"
    return Verifier("OpenDKIM", Removes.NONE if is_known else Removes.UNKNOWN, why)


def _covers(host: str, authserv_id: str) -> bool:
    return host == authserv_id or (host.startswith(".") and authserv_id.endswith(host))


def _opendmarc(_options: Mapping[str, str], _authserv_id: str) -> Verifier:
    return Verifier("OpenDMARC", Removes.NONE, "it never does")


def _rspamd(_authserv_id: str, root: Path) -> Verifier:
    texts = []
    for folder in ("modules.d", "local.d", "override.d"):
        path = root / "etc/rspamd" / folder / "milter_headers.conf"
        try:
            texts.append(re.sub(r"#.*", "", path.read_text("utf-8", "replace")))
        except FileNotFoundError:
            continue
        except OSError as error:
            return Verifier("rspamd", Removes.UNKNOWN, f"{path} cannot be read: {error.strerror}")
    uses = [found for text in texts for found in re.findall(r"\buse\s*=\s*(\[[^\]]*\]|[^;\n]*)", text)]
    routine = [found for text in texts for found in re.findall(r"authentication-results[\"']?\s*\{([^}]*)\}", text)]
    others = [n for text in routine for n in re.findall(r"\bremove\s*=\s*([^;\s]+)", text) if n != "0"]
    if not texts or others:
        why = f"authentication-results has remove = {others[0]}" if others else "its milter_headers.conf is not here"
        return Verifier("rspamd", Removes.UNKNOWN, why)
    if any("authentication-results" in use for use in uses):
        return Verifier("rspamd", Removes.ALL)
    return Verifier("rspamd", Removes.NONE, "its milter_headers.conf does not use authentication-results")
