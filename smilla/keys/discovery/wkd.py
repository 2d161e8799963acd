"""The Web Key Directory: OpenPGP keys on a web server of the address's domain (draft-koch-openpgp-webkey-service).

The advanced method asks openpgpkey.DOMAIN.  Only if that host provably does not exist, the direct method asks DOMAIN
itself; whatever else goes wrong with it, the direct method is not used.  The name of a key is the local part, its ASCII
letters in lower case, hashed with SHA-1 and written in z-base-32; the local part as given goes with it as ``l``.

What an answer proves: the certificate of the web server, verified, is all that a key rests on, and all that an absence
rests on.  Status 404 (or 410) is the domain's own word that there is no key.  A domain without any web server is
absence too, as far as DNS proves that.  What fails is unreachable: DNS, the connection, the certificate, 5yz.

Where the draft leaves a choice:

* Redirections: GnuPG follows them to any host, but keeps the path there.  We follow two, over HTTPS, to DOMAIN and to
  hosts below it: many sites send every request to www.DOMAIN.  Nobody can tell what any other one means: unclear.
* A page instead of a key: sites that show a page for every path answer 200.  That is no key, nor absence: unclear.
* The web server may be anywhere, also inside our own network.  One GET of this path is sent, and only after the server
  has shown a certificate for its name (see hops/policies.py, which does the same).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import quote, urljoin, urlsplit

from smilla.address import EmailAddress
from smilla.errors import FetchError, ParseError
from smilla.formats import key_file
from smilla.hops import rdata
from smilla.keys.discovery import owner
from smilla.model import Candidate, DNSAnswer, DNSSECStatus, Format, Reason, SourceAnswer
from smilla.value import value

LARGEST = 64 * 1024  # octets of an answer
_SOURCE = "wkd"
_ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"  # z-base-32
_WELL_KNOWN = "/.well-known/openpgpkey"
_MOST_TRIED = 3  # addresses of one web server
_MOST_REDIRECTIONS = 2
_ABSENT, _MOVED = (404, 410), (301, 302, 303, 307, 308)
_LATER = (408, 425, 429)  # besides 5yz
_KNOWN = (DNSSECStatus.SECURE, DNSSECStatus.INSECURE)
_HOST = re.compile(r"[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})+")


@value
class Fetched:
    """What the web server answered; ``location`` is where it redirects to."""

    status: int
    media_type: str = ""
    raw: bytes = b""
    location: str = ""


class Get(Protocol):
    """GET https://HOST/TARGET, from the server at one address."""

    def __call__(self, host: str, target: str, address: str) -> Fetched:
        """Raises FetchError."""


Ask = Callable[[str, Sequence[int]], list[DNSAnswer]]


def hashed(local_part: str) -> str:
    """The name of a key: 32 characters.  ``local_part`` is unquoted and in NFC; letters outside ASCII keep their
    case."""
    lowered = "".join(c.lower() if c.isascii() else c for c in local_part)
    number = int.from_bytes(hashlib.sha1(lowered.encode("utf-8"), usedforsecurity=False).digest())
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(155, -1, -5))


def folder_of(domain: str, *, advanced: bool) -> str:
    """The path below which keys and policy lie, without a final slash."""
    return f"{_WELL_KNOWN}/{domain}" if advanced else _WELL_KNOWN


def find(address: EmailAddress, ask: Ask, get: Get) -> SourceAnswer:
    """The keys of this address.  ``ask`` waits for answers about one name, of several types; raises nothing."""
    domain = address.domain
    key = f"hu/{hashed(address.local_part)}"
    insecure = False
    for host, folder in (
        (f"openpgpkey.{domain}", folder_of(domain, advanced=True)),
        (domain, folder_of(domain, advanced=False)),
    ):
        place = _Place(host, f"{folder}/{key}?l={quote(address.local_part, safe='')}")
        located = _locate(host, ask)
        if located.failure is not None:
            return _undone(place, located.failure)
        if located.addresses:
            return _fetched(domain, place, located.addresses, ask, get)
        insecure |= not located.is_secure
    silence = owner.unproven_silence(domain) if insecure else None
    return SourceAnswer(_SOURCE, domain, detail=f"{domain} has no web server", unclear=silence)


# --- where the web server is


@value
class _Located:
    """The addresses of a host, () if it provably has none; or the answer that says nothing."""

    addresses: tuple[str, ...] = ()
    is_secure: bool = False
    failure: DNSAnswer | None = None


def _locate(host: str, ask: Ask) -> _Located:
    """One type of address is enough, if the other cannot be had."""
    answers = ask(f"{host}.", (rdata.A, rdata.AAAA))
    failures = [a for a in answers if a.status not in _KNOWN or a.malformed]
    try:
        found = [rdata.address(raw) for a in answers if a not in failures for raw in a.raw_rdata]
    except ParseError:
        found, failures = [], failures or answers
    if found:
        return _Located(tuple(dict.fromkeys(found)))
    if failures:
        return _Located(failure=failures[0])
    return _Located(is_secure=all(a.status is DNSSECStatus.SECURE for a in answers))


@value
class _Place:
    """Where a key is asked for; ``target`` is the path with the query."""

    host: str
    target: str

    @property
    def shown(self) -> str:
        """For people, without the query."""
        return f"https://{self.host}{self.target.partition('?')[0]}"


def _undone(place: _Place, answer: DNSAnswer) -> SourceAnswer:
    """DNS did not tell where the web server is."""
    text = f"{place.host}: {answer.detail or answer.status.value}"
    if answer.status in _KNOWN:
        return _unclear(place, f"{place.host}: its address records cannot be read")
    return SourceAnswer(_SOURCE, place.shown, detail=text, dns=answer)


# --- what the web server says


def _fetched(domain: str, place: _Place, addresses: Sequence[str], ask: Ask, get: Get) -> SourceAnswer:
    for _ in range(1 + _MOST_REDIRECTIONS):
        try:
            found = _got(place, addresses, get)
        except FetchError as error:
            return _unreachable(place, str(error))
        if found.status not in _MOVED:
            return _read(place, found)
        moved = _moved(domain, place, found.location)
        if moved is None:
            return _unclear(place, f"it redirects to {_shown(found.location)}, which is not a host of {domain}")
        if moved.host != place.host:
            located = _locate(moved.host, ask)
            if located.failure is not None:
                return _undone(moved, located.failure)
            addresses = located.addresses
        place = moved
        if not addresses:
            return _unclear(place, "a redirection leads there, but there is no such host")
    return _unclear(place, "it redirects again and again")


def _got(place: _Place, addresses: Sequence[str], get: Get) -> Fetched:
    """From the first address that gives a whole answer.  Raises FetchError."""
    *first, last = addresses[:_MOST_TRIED]
    for address in first:
        try:
            return get(place.host, place.target, address)
        except FetchError:
            continue
    return get(place.host, place.target, last)


def _moved(domain: str, place: _Place, location: str) -> _Place | None:
    """Where a redirection leads, None if it is not one that we follow."""
    try:
        parts = urlsplit(urljoin(f"https://{place.host}{place.target}", location))
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return None
    is_ours = (host == domain or host.endswith(f".{domain}")) and _HOST.fullmatch(host) is not None
    if not location or parts.scheme != "https" or parts.username is not None or port not in (None, 443) or not is_ours:
        return None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Place(host, target) if target.isascii() and target.isprintable() else None


def _read(place: _Place, found: Fetched) -> SourceAnswer:
    if found.status in _ABSENT:
        return SourceAnswer(_SOURCE, place.shown, detail=f"{place.host} says that it has no key ({found.status})")
    if found.status >= 500 or found.status in _LATER:
        return _unreachable(place, f"{place.host} answers {found.status}")
    if found.status != 200:
        return _unclear(place, f"{place.host} answers {found.status}, which is neither a key nor its absence")
    if found.media_type.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml"):
        return _unclear(place, f"{place.host} answers with a page, which is neither a key nor its absence")
    contents = key_file.contents(found.raw, Format.OPENPGP)
    if contents.has_more:
        text = f"{place.host} gives more than {key_file.MOST} keys; the rest are not read"
        return SourceAnswer(_SOURCE, place.shown, unclear=Reason("too_many_candidates", text))
    candidates = tuple(Candidate(_SOURCE, place.shown, Format.OPENPGP, raw) for _, raw in contents.keys)
    return SourceAnswer(_SOURCE, place.shown, candidates)


def _unclear(place: _Place, text: str) -> SourceAnswer:
    return SourceAnswer(_SOURCE, place.shown, unclear=Reason("web_unclear", text))


def _unreachable(place: _Place, text: str) -> SourceAnswer:
    return SourceAnswer(_SOURCE, place.shown, detail=text, is_unreachable=True)


def _shown(location: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in location[:100]) or "nowhere"
