"""How a message came, told in its header: the Authentication-Results field with x-tls, and X-Smilla-Transport.

    Authentication-Results: mx.example.org;
            x-tls=pass smtp.version=TLSv1.3 smtp.cipher=TLS_AES_256_GCM_SHA384 smtp.bits=256
    X-Smilla-Transport: tls TLSv1.3 TLS_AES_256_GCM_SHA384; e2e=none

Promises: nothing is said that the MTA did not tell.  What came from outside and says the same is removed, and nothing
else.  What is written is ASCII, and nothing in it is a stranger's words: of a certificate, only whether a circle issued
it is told.

``x-tls`` is no registered method, which RFC 8601 section 2.7.6 allows; authentication_milter writes it in this form.
Both fields are trace fields and come before all others (RFC 8601 section 4.1).  X-Smilla-Transport has one meaning only
and is never left from outside, so it is the one that filters of readers should go by.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from smilla.config.options import TransportOptions
from smilla.formats import authentication_results
from smilla.model import Arrival, Authorities, Classification, HeaderEdits, Message, Reason, Transport

FIELD = "X-Smilla-Transport"
METHOD = "x-tls"
_MOST_REMOVED = 500  # each makes Postfix read its queue file once more
_MOST_OCTETS = 256 << 10  # which take a fraction of a second to read
_BITS = re.compile(r"[1-9][0-9]{0,4}")
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")


def foreign(message: Message, authserv_id: str) -> tuple[int, ...]:
    """The indexes of the fields from outside that say how the message came to us."""
    results = message.places.get(authentication_results.NAME.lower(), ())
    claims = (i for i in results if authentication_results.may_claim(message.headers[i].raw_value, authserv_id, METHOD))
    return tuple(sorted([*message.places.get(FIELD.lower(), ()), *claims]))


def problem(message: Message, authserv_id: str) -> Reason | None:
    """Why the fields from outside cannot be removed, None if they can."""
    results = message.named(authentication_results.NAME.lower())
    if sum(len(header.raw_value) for header in results) > _MOST_OCTETS:
        what = f"more than {_MOST_OCTETS} octets of {authentication_results.NAME} fields"
        return Reason("header_too_large", what)
    if (count := len(foreign(message, authserv_id))) <= _MOST_REMOVED:
        return None
    what = f"{count} {FIELD} fields, or {authentication_results.NAME} fields with {METHOD}, which would be removed"
    return Reason("too_many_fields", f"{what}; at most {_MOST_REMOVED} are handled")


def told(
    message: Message,
    transport: Transport | None,
    classification: Classification,
    options: TransportOptions,
    circles: Sequence[Authorities] = (),
) -> Arrival:
    """What the header is to say.  ``transport`` is None if nobody told how the message came: then nothing is added.
    ``circles`` has those whose certificates the MTA may be asked for."""
    removed = foreign(message, options.authserv_id)
    if transport is None:
        return Arrival("unknown", HeaderEdits(removed))
    circle = circle_of(transport, circles) if options.circles else ""
    way = "circle" if circle else "tls" if transport.is_encrypted else "plain"
    words = {"circle": ("circle", circle), "tls": ("tls",), "plain": ("plain",)}[way]
    if transport.is_encrypted:
        words = (*words, _shown(transport.tls_version), _shown(transport.cipher))
    form = classification.format.value if classification.format else "none"
    fields = (
        (authentication_results.NAME, _results(transport, options.authserv_id)),
        (FIELD, f"{' '.join(words)}; e2e={form}"),
    )
    return Arrival(way, HeaderEdits(removed, inserted=fields))


def _results(transport: Transport, authserv_id: str) -> str:
    if not transport.is_encrypted:
        return authentication_results.written(authserv_id, METHOD, "none", ())
    properties = (
        ("smtp.version", transport.tls_version),
        ("smtp.cipher", transport.cipher),
        ("smtp.bits", transport.bits if _BITS.fullmatch(transport.bits) else ""),
    )
    return authentication_results.written(authserv_id, METHOD, "pass", properties)


def _shown(name: str) -> str:
    return name if authentication_results.is_value(name) else "unknown"


def circle_of(transport: Transport, circles: Sequence[Authorities]) -> str:
    """The circle whose authority issued the client's certificate, as far as the MTA tells; "" if none did, the MTA does
    not trust the certificate, or two circles have an authority of that name."""
    issuer = transport.cert_issuer
    if not transport.is_encrypted or not issuer:
        return ""
    if issuer.startswith("/"):  # Sendmail, which names the issuer of every certificate
        is_trusted = transport.verify == "OK"
        found = [each.circle for each in circles if is_trusted and _without_xtext(issuer) in each.whole_names]
    else:  # Postfix, which names it only where it trusts the certificate, and has no {verify}
        found = [each.circle for each in circles if not transport.verify and issuer in each.common_names]
    return _NOT_IN_NAME.sub("?", found[0]) if len(found) == 1 else ""


def _without_xtext(name: str) -> str:
    """Sendmail writes blanks and special characters of a name as +XX."""
    return unquote_to_bytes(name.replace("%", "%25").replace("+", "%")).decode("latin-1")
