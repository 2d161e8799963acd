"""Faults of the sources of keys: those that a rule, or what a key must rest on, leaves without any."""

from __future__ import annotations

import re
from collections.abc import Iterator

from smilla.config.options import FORMATS_OF, Config
from smilla.config.paths import no_file
from smilla.model import RESTS_ON

_ALONE = "names learned and not dnssec, so nothing would prove that no key is published"


def of_keys(config: Config) -> Iterator[tuple[str, str]]:
    """The option of [keys] and what is wrong with it."""
    path = config.keys.wkd_ca_file
    if "wkd" in config.keys.sources and (problem := no_file(path or "/nonexistent")):
        yield "wkd_ca_file", f'is "{path}", {problem}, but wkd is among sources'
    sources = config.keys.sources
    if "learned" in sources and sources[-1] != "learned":
        yield "sources", "names learned before another source; it comes last, since no learned key may replace another"
    if "learned" in sources and not any(RESTS_ON[source] == "dnssec" for source in sources):
        yield "sources", "names learned without smimea or openpgpkey: nothing would prove that no key is published"
    if _is_learned_alone(config.keys.trust):
        yield "trust", _ALONE
    if config.keys.trust and not _trusted(config, ()):
        yield "trust", f"is {list(config.keys.trust)}, and none of sources rests on that"


def of_rules(config: Config) -> Iterator[tuple[int, str]]:
    """The number of the rule and what is wrong with it."""
    for number, rule in enumerate(config.rule, 1):
        if rule.key:
            continue  # no source is asked
        if _is_learned_alone(rule.trust):
            yield number, f"has trust = {list(rule.trust)}, which {_ALONE}"
        if rule.formats and not _having(config.keys.sources, rule.formats):
            yield number, f"has formats = {list(rule.formats)}, which none of [keys] sources has"
        elif rule.trust and not _trusted(config, rule.trust):
            yield number, f"has trust = {list(rule.trust)}, and none of [keys] sources rests on that"
        elif rule.formats and not _having(_trusted(config, rule.trust), rule.formats):
            yield number, f"has formats = {list(rule.formats)}, which no source has that is trusted"


def of_learned(config: Config) -> Iterator[tuple[str, str]]:
    """The option of [learned] and what is wrong with it."""
    if config.learned.accept and not config.transport.authserv_id:
        yield "accept", "needs [transport] authserv_id: the name under which your verifiers say what they found"
    if "smime" in config.learned.accept and not config.smime.ca_file:
        yield "accept", "names smime, which needs [smime] ca_file: the authorities that are trusted"


def _is_learned_alone(trust: tuple[str, ...]) -> bool:
    return "learned" in trust and "dnssec" not in trust


def of_ldap(config: Config) -> Iterator[tuple[str, str]]:
    """The option of [ldap] and what is wrong with it, if the directory is asked."""
    options = config.ldap
    if "ldap" not in config.keys.sources:
        return
    if not options.url:
        yield "url", "is empty, but ldap is among sources"
    for name in ("ca_file", "password_file"):
        if (path := getattr(options, name)) and (problem := no_file(path)):
            yield name, f'is "{path}", {problem}'
    if not options.ca_file:
        yield "ca_file", "is empty, but ldap is among sources"
    if bool(options.bind_dn) != bool(options.password_file):
        yield "bind_dn", "and password_file belong together: give both or neither"
    if problem := _filter_problem(options.filter):
        yield "filter", f'is "{options.filter}", {problem}'


def _filter_problem(text: str) -> str:
    """RFC 4515 section 3: a filter stands in brackets, and an escape has two hexadecimal digits."""
    if "{address}" not in text and not ("{local_part}" in text and "{domain}" in text):
        return "but needs {address}, or {local_part} and {domain}"
    depth = 0
    for place, one in enumerate(text):
        depth += {"(": 1, ")": -1}.get(one, 0)
        if depth < 1 and place < len(text) - 1:
            return "but must stand in brackets as a whole, such as (mail={address})"
    if depth:
        return "but has brackets that do not match"
    rest = re.sub(r"\\[0-9A-Fa-f]{2}|\{(?:address|local_part|domain)\}", "", text)
    return "but has a backslash or a brace that means nothing" if set(rest) & set("\\{}") else ""


def _trusted(config: Config, trust: tuple[str, ...]) -> tuple[str, ...]:
    words = trust or config.keys.trust
    return tuple(source for source in config.keys.sources if not words or RESTS_ON[source] in words)


def _having(sources: tuple[str, ...], formats: tuple[str, ...]) -> bool:
    """Learned keys do not count: what is published in these formats, no source would say."""
    return any(form in FORMATS_OF[source] for source in sources if source != "learned" for form in formats)
