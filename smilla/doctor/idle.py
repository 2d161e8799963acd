"""What has no effect in a valid configuration, or less than it seems: for ``smilla config check``."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from smilla.config import Config, Rule
from smilla.config.options import CONDITIONS
from smilla.config.patterns import domain_pattern
from smilla.doctor.finding import Finding, Kind, hint, warning
from smilla.keys.discovery.directory import SUFFIXES
from smilla.model import RESTS_ON
from smilla.policy import rules
from smilla.server.runtime import needs_hops

_DOMAINS = (
    "q7x.example",
    "mail.k-9.test",
    "xn--bcher-kva.example",
)  # a pattern that matches all of these matches any domain
_MOST_ENTRIES = 5000


def problems(settings: Config) -> Iterator[Finding]:
    """Warnings and hints."""
    keys = settings.keys
    if keys.directory and "directory" not in keys.sources:
        text = f'[keys] directory is "{keys.directory}", but sources has no "directory": no file there is used'
        yield warning(Kind.IDLE, "", text)
    if settings.ldap.url and "ldap" not in keys.sources:
        yield warning(Kind.IDLE, "", f'[ldap] url is "{settings.ldap.url}", but sources has no "ldap": nobody asks it')
    if "directory" in keys.sources:
        yield from _folders_of_keys(Path(keys.directory))
    yield from _of_learned(settings)
    if settings.store.url and not settings.uses_learned and not needs_hops(settings):
        text = "[store] url is set, but the filter remembers nothing: neither learned keys nor verified hops are on"
        yield hint(Kind.IDLE, "", text)
    trusted = {*keys.trust, *(word for rule in settings.rule for word in rule.trust)}
    for word in sorted(trusted - {RESTS_ON[source] for source in keys.sources}):
        yield warning(Kind.IDLE, "", f"trust names {word}, but none of [keys] sources rests on that")
    if settings.mode == "outbound" and _has_all_domains(settings.local_domains):
        text = "mode = outbound encrypts for nobody in local_domains, and that covers all domains"
        yield warning(Kind.IDLE, "", text)
    yield from _of_transport(settings)
    yield from _of_circles(settings)
    for number, rule in enumerate(settings.rule, 1):
        for text in _never_applies(number, settings):
            yield warning(Kind.IDLE, f"rule {number} can never apply", text)
        yield from _without_tags(number, rule, settings)


def _of_learned(settings: Config) -> Iterator[Finding]:
    is_used = "learned" in settings.keys.sources
    if settings.learned.accept and settings.mode == "outbound":
        text = "[learned] accept learns from inbound mail, but mode = outbound: no mail is inbound"
        yield warning(Kind.IDLE, "", text)
    if settings.learned.accept and not is_used:
        yield warning(Kind.IDLE, "", '[learned] accept learns keys, but [keys] sources has no "learned": none is used')
    if is_used and not settings.learned.accept:
        text = '[keys] sources has "learned", but [learned] accept is empty: only what another filter learned is used'
        yield hint(Kind.IDLE, "", text)


def _of_transport(settings: Config) -> Iterator[Finding]:
    options = settings.transport
    if options.authserv_id and settings.mode == "outbound":
        text = "[transport] authserv_id says how inbound mail came, but mode = outbound: no mail is inbound"
        yield warning(Kind.IDLE, "", text)
    if options.circles and not options.authserv_id:
        yield warning(Kind.IDLE, "", "[transport] circles has no effect without authserv_id")
    if options.circles and not settings.circle:
        yield warning(Kind.IDLE, "", "[transport] circles is true, but there is no [[circle]]")


def _of_circles(settings: Config) -> Iterator[Finding]:
    """Domains of a circle that another one takes: the first that names a domain has it."""
    for number, circle in enumerate(settings.circle):
        for text in circle.domains:
            wanted = domain_pattern(text)
            for before in settings.circle[:number]:
                if any(_fits(wanted, domain_pattern(other)) for other in before.domains):
                    told = f"{text} of its domains is in circle {before.name} before it: that one's authorities count"
                    yield warning(Kind.IDLE, f"circle {circle.name}", told, "write the narrower circle first")
                    break


def _folders_of_keys(folder: Path) -> Iterator[Finding]:
    try:
        for below in sorted(path for path in islice(folder.iterdir(), _MOST_ENTRIES) if path.is_dir()):
            if any(file.suffix.lower() in SUFFIXES for file in islice(below.rglob("*"), _MOST_ENTRIES)):
                text = "smilla does not look for keys in folders below [keys] directory"
                yield warning(Kind.KEY_FOLDER, f"keys {below}", text)
    except OSError as error:
        yield warning(Kind.KEY_FOLDER, f"keys {folder}", f"cannot be read: {error.strerror}")


def _has_all_domains(patterns: tuple[str, ...]) -> bool:
    return all(rules.is_in(domain, patterns) for domain in _DOMAINS)


def _never_applies(number: int, settings: Config) -> Iterator[str]:
    rule = settings.rule[number - 1]
    if rule.direction and settings.mode not in ("auto", rule.direction):
        yield f'direction = "{rule.direction}", and mode = "{settings.mode}"'
    domain = domain_pattern(rule.recipient.rpartition("@")[2])
    if rule.domain and rule.recipient and not _is_wild(domain) and not rules.is_in(domain, rule.domain):
        yield f"{domain} of its recipient is not in its domain"
    covers = (n for n, before in enumerate(settings.rule[: number - 1], 1) if _covers(before, rule, settings.mode))
    if (earlier := next(covers, 0)) > 0:
        yield f"rule {earlier} before it holds wherever it would"


def _covers(before: Rule, rule: Rule, mode: str) -> bool:
    """Judging by their text: does every condition of ``before`` hold wherever ``rule`` does?"""
    return all(_is_wider(name, before, rule, mode) for name in CONDITIONS if getattr(before, name))


def _is_wider(name: str, before: Rule, rule: Rule, mode: str) -> bool:
    wide, narrow = getattr(before, name), getattr(rule, name)
    if name == "direction":
        return wide in (mode, narrow)
    if name == "client":
        return bool(narrow) and set(narrow) <= set(wide)
    if name == "domain":
        known = [domain_pattern(one) for one in wide]
        inside = (any(_fits(domain_pattern(one), other) for other in known) for one in narrow)
        return _has_all_domains(wide) or (bool(narrow) and all(inside))
    if (wide == "*" and name != "user") or (name == "recipient" and wide == "*@*"):
        return True
    return bool(narrow) and _fits(_folded(narrow), _folded(wide))


def _fits(narrow: str, wide: str) -> bool:
    """Only an asterisk of the wider pattern can stand for a wildcard of the narrower one."""
    return narrow == wide or (set("?[").isdisjoint(wide) and fnmatchcase(narrow, wide))


def _folded(pattern: str) -> str:
    local, at, domain = pattern.rpartition("@")
    return f"{local}@{domain_pattern(domain)}" if at else pattern


def _is_wild(pattern: str) -> bool:
    return not set("*?[").isdisjoint(pattern)


def _without_tags(number: int, rule: Rule, settings: Config) -> Iterator[Finding]:
    """A rule for one mailbox does not cover its tags, though these use its key."""
    local, _, domain = rule.recipient.rpartition("@")
    tag = settings.keys.subaddress
    is_mapped = "directory" in settings.keys.sources or rules.is_in(domain_pattern(domain), settings.local_domains)
    if not local or _is_wild(local) or not tag or tag in local or not is_mapped:
        return
    if not any(fnmatchcase(f"{local}{tag}x@{domain}", other.recipient) for other in settings.rule if other.recipient):
        text = (
            f"rule {number} is for {rule.recipient} alone, but {local}{tag}tag@{domain} uses the same key "
            f"([keys] subaddress): to cover all tags, write a rule with {local}{tag}*@{domain}"
        )
        yield hint(Kind.IDLE, "", text)
