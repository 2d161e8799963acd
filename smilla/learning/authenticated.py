"""Is a message from the address in its From field, as our own verifiers say?

They say it in Authentication-Results fields with our authserv-id (RFC 8601).  Fields that a verifier of this hop has
written stand before everything that the client sent, so only fields above the first Received field count: those further
down are another hop's, whatever name they bear.  A client may write such fields at the top, too, and the verifiers must
remove these, which ``smilla config check`` looks at.  So one forged field never helps beside a genuine one: every DMARC
result of ours must be a pass for the one domain in From, and a field of ours that does not keep to the grammar ends it.

What others do: mail programs that learn Autocrypt keys check nothing, or that the message has a DKIM signature.  What
we do: DMARC must pass (RFC 7489), for exactly one From field with exactly one address.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from smilla.address import EmailAddress, parse, sole_mailbox
from smilla.errors import AddressError, ParseError
from smilla.formats import authentication_results, dkim_signature
from smilla.formats.authentication_results import Result
from smilla.formats.dkim_signature import Signature
from smilla.model import Message
from smilla.value import value

_MOST_FIELDS = 50  # of one name
_LATEST = timedelta(days=30)  # an older message is no news
_LEAST_COMPARED = 8  # characters of a signature (RFC 6008 section 3)


class UnprovenError(Exception):
    """Nothing may be learned from the message; the text says why."""


@value
class Sender:
    """Who sent a message, proven: the one address in From, when (Date, at most now), what our verifiers say of DKIM:
    ``dkim`` has the results that are a pass, ``denied`` all others."""

    address: EmailAddress
    sent_at: datetime
    dkim: tuple[Result, ...]
    denied: tuple[Result, ...] = ()


def sender_of(message: Message, authserv_id: str, now: datetime) -> Sender:
    """Raises UnprovenError."""
    address = _author(message)
    results = _results(message, authserv_id)
    dmarc = [result for result in results if result.method == "dmarc"]
    if not dmarc:
        raise UnprovenError("no verifier of ours has said whether DMARC passed")
    if any(result.result != "pass" for result in dmarc):
        raise UnprovenError("DMARC did not pass")
    if any([_domain(name) for name in result.named("header.from")] != [address.domain] for result in dmarc):
        raise UnprovenError("DMARC passed for another domain than the one in From, or for a domain that is not named")
    dkim = [result for result in results if result.method == "dkim"]
    passed = tuple(result for result in dkim if result.result == "pass")
    denied = tuple(result for result in dkim if result.result != "pass")
    return Sender(address, _sent_at(message, now), passed, denied)


def covered_by_sender(message: Message, sender: Sender, *names: str) -> bool:
    """Does a valid DKIM signature of the sender's own domain, or of one above it, cover these fields?

    Where the verifier does not say which of several signatures it was, each one that it may have been must do so.  None
    may be one of which another result of ours says that it did not pass: one of the two is forged.
    """
    signatures = _signatures(message)
    for result in sender.dkim:
        meant = [signature for signature in signatures if _may_be(result, signature)]
        aligned = all(_is_aligned(signature.domain, sender.address.domain) for signature in meant)
        doubted = any(_may_deny(other, signature) for other in sender.denied for signature in meant)
        if meant and aligned and not doubted and all(set(names) <= set(signature.covers) for signature in meant):
            return True
    return False


def _author(message: Message) -> EmailAddress:
    fields = message.named("from")
    address = sole_mailbox(fields[0].raw_value) if len(fields) == 1 else None
    if address is None:
        raise UnprovenError("there is not exactly one From field with exactly one address")
    if address.is_literal or address.is_single_label or address.is_odd_host or address.ambiguous:
        raise UnprovenError("the domain in From is none that two programs read alike")
    return address


def _results(message: Message, authserv_id: str) -> list[Result]:
    """What fields of ours say, above the first Received field."""
    fields = message.places.get(authentication_results.NAME.lower(), ())
    received = message.places.get("received", ())
    above = [index for index in fields if not received or index < received[0]]
    if len(above) > _MOST_FIELDS:
        raise UnprovenError("too many Authentication-Results fields")
    found: list[Result] = []
    for index in above:
        raw_value = message.headers[index].raw_value
        try:
            found += authentication_results.results_of(raw_value, authserv_id)
        except ParseError as error:
            if authserv_id.lower().encode("ascii") in raw_value.lower():
                raise UnprovenError(f"an Authentication-Results field that may be ours: {error}") from error
    return found


def _signatures(message: Message) -> Sequence[Signature]:
    """Those that can be read; one that cannot is not valid."""
    found = []
    for field in message.named(dkim_signature.NAME.lower())[:_MOST_FIELDS]:
        try:
            found.append(dkim_signature.read(field.raw_value))
        except ParseError:
            continue
    return found


def _may_be(result: Result, signature: Signature) -> bool:
    """May the verifier mean this signature, by all that it says of it?  It must name the domain."""
    begun = result.named("header.b")
    is_long = not begun or len(begun[0]) >= _LEAST_COMPARED
    return bool(result.named("header.d")) and is_long and _may_deny(result, signature)


def _may_deny(result: Result, signature: Signature) -> bool:
    """The same for a result that is no pass: what says nothing of the domain may mean any signature."""
    domains = [_domain(name) for name in result.named("header.d")]
    selectors = [name.lower() for name in result.named("header.s")]
    begun = result.named("header.b")
    if domains not in ([], [signature.domain]) or selectors not in ([], [signature.selector]):
        return False
    return not begun or signature.signature.startswith(begun[0])


def _is_aligned(signing: str, author: str) -> bool:
    """DMARC's relaxed alignment (RFC 7489 section 3.1.1) would also take a subdomain of the author's domain.  What we
    do: only the domain itself, or one above it, but no top-level domain; so no list of public suffixes is needed."""
    return signing == author or ("." in signing and author.endswith(f".{signing}"))


def _domain(name: str) -> str:
    """In A-labels; "" if it is none."""
    try:
        return parse(f"x@{name}").domain
    except AddressError:
        return ""


def _sent_at(message: Message, now: datetime) -> datetime:
    fields = message.named("date")
    if len(fields) != 1:
        raise UnprovenError("there is not exactly one Date field")
    try:
        date = parsedate_to_datetime(fields[0].raw_value.decode("ascii"))
        sent_at = min(date.astimezone(now.tzinfo), now)
    except (ValueError, OverflowError, TypeError, IndexError) as error:
        raise UnprovenError("its Date cannot be read") from error
    return latest(sent_at, now)


def latest(sent_at: datetime, now: datetime) -> datetime:
    """The same instant, if it is news.  Raises UnprovenError."""
    if sent_at < now - _LATEST:
        raise UnprovenError(f"it was sent or signed more than {_LATEST.days} days ago")
    return sent_at
