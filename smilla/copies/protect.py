"""Header protection (RFC 9788): which header fields are copied inside the ciphertext, and which stay outside.

``copy`` is the RFC's policy hcp_no_confidentiality (section 3.2.3); ``hide`` is its hcp_baseline (section 3.2.1):
outside, Subject is "[...]", and Comments and Keywords are gone.  ``hide`` goes further, as section 3.4.1 allows: it
covers Thread-Topic, in which Outlook repeats the Subject, and all other fields that show it (``hiding`` says which).  A
trace or signature field that shows it moves inside.  Pure: fields in, fields out; the body is never read.

Where the RFC leaves a choice, or we do not follow its advice:

- **Encrypted-only** messages are out of its scope (section 1.8.2).  It requires ``hp="cipher"`` wherever header fields
  are protected and there is encryption (section 2.1.1), though its table also mentions a signature.  Readers go by the
  layers that they find, not by the parameter (section 10.2): without a signature they call a hidden field
  "encrypted-only", any other "unprotected" (section 4.3.1).
- **Signed messages are left alone.**  Their Cryptographic Payload is what is signed (RFC 9787 sections 4.2 and 4.3),
  and hp must be ignored anywhere else (section 4.1): fields inside it would break the signature, and readers do not
  trust fields beside it.  A wrapper around it would hide the signature (an Errant Cryptographic Layer, RFC 9787 section
  4.5).  So an inner ``hp="clear"`` stays as it is, which tells a reader that somebody on the way encrypted (section
  10.2), and the Subject stays outside.
- **No Legacy Display Element** (sections 5.2.2 and 5.2.3; legacy is false in section 5.2.1): it is text in the body,
  and we never change a body.  A separate part before the body would not count, since the element must be in the Main
  Body Part (section 5.2.4), and it would replace a root such as multipart/report.  So a Subject hidden from a reader
  without header protection is hidden for good; a rule can choose for whom to hide it.
- **protected-headers="v1"**, the parameter of an older scheme (appendix F.3), is written too: Thunderbird needs it.
- **HP-Outer is 7-bit** (the ABNF of section 2.2.1).  If the field has raw 8-bit octets, HP-Outer has them in encoded
  words (RFC 2047).  A reader that compares octets thinks the outer field was changed, and hides it in a reply: the safe
  side.
- **Bcc** never goes inside, "the most privacy-preserving option" of section 11.4.  Nor do trace and signature fields,
  which relays write about the message (section 7), nor HP-Outer, which has a meaning only inside (section 2.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

from smilla.copies import hiding
from smilla.formats import header_text, mime
from smilla.model import Header, HeaderEdits, HeaderProtection, Message, Reason
from smilla.value import value

_NONE = HeaderEdits()
_NEVER_INSIDE = re.compile("mime-version|content-.*|bcc|resent-bcc|x-smilla|hp-outer")
_NOT_CARRIED = re.compile(
    "received|x-received|received-spf|return-path|delivered-to|x-original-to|authentication-results|arc-.*"
    "|x-smilla-transport"
    "|dkim-signature|x-google-dkim-signature|domainkey-signature"
)
_OUTSIDE: dict[str, tuple[str, ...]] = {"subject": ("[...]",)}  # replaces a hidden field; others are removed
_LAYERS = ("multipart/signed", "application/pkcs7-mime", "application/x-pkcs7-mime")
_PARAMETERS = {"hp": "cipher", "protected-headers": "v1"}
_TAKEN = (*_PARAMETERS, "hp-legacy-display")
_WRITTEN = b'protected-headers="v1"; hp="cipher"'

_PROPER = re.compile(rb"[^\r\n\0]*(?:\r\n[ \t]+[^\r\n\0 \t][^\r\n\0]*)*")
_BLANK_LINES = re.compile(rb"(?:\r\n[ \t]+)+(?=\r\n|\Z)")
_LONGEST_FIELD = 60_000  # the milter protocol cuts longer ones
_MOST_HIDDEN = 100  # each makes Postfix read its queue file once more
_LONGEST_LINE = 998


@value
class Plan:
    """``inside`` is the header of the encrypted content; ``edits`` are the changes outside."""

    edits: HeaderEdits
    inside: tuple[Header, ...]
    protection: HeaderProtection


@value
class _Carried:
    """A field that is copied inside; ``index`` is its place in the message, None if the edits add it."""

    header: Header
    index: int | None
    hidden: bool

    @property
    def outside(self) -> list[Header]:
        """What stands outside instead: the same field, another value, or nothing."""
        if not self.hidden:
            return [self.header]
        return [
            Header(self.header.raw_name, b" " + value.encode("ascii")) for value in _OUTSIDE.get(self.header.name, ())
        ]


def plan(message: Message, content: tuple[Header, ...], protect_headers: str, edits: HeaderEdits = _NONE) -> Plan:
    """What goes inside and what changes outside, for ``protect_headers`` off, copy or hide.

    ``content`` are the fields that move inside anyway; ``edits`` are the changes already made outside.  The fields
    inside are those of the message as it would have been sent.  If fields cannot be protected, only ``edits`` are made,
    and the plan gives the reason.
    """
    if protect_headers == "off":
        return Plan(edits, content, HeaderProtection())
    carried = _carried(message, edits, hide=protect_headers == "hide")
    marked = _marked(content)
    problem = marked if isinstance(marked, Reason) else _problem(carried)
    if isinstance(marked, Reason) or problem:
        return Plan(edits, content, HeaderProtection(protect_headers, problem=problem))
    inside = [field.header for field in carried]
    record = [_recorded(header) for field in carried for header in field.outside]
    hidden = [field for field in carried if field.hidden]
    protection = HeaderProtection(protect_headers, _names(inside), _names([field.header for field in hidden]))
    outside = _hiding(edits, hidden)
    if protect_headers == "hide":
        outside = HeaderEdits(tuple(sorted({*outside.removed, *_telling(message)})), outside.added)
    return Plan(outside, (*inside, *record, *marked), protection)


def _telling(message: Message) -> Iterator[int]:
    """HP-Outer fields from outside, which mean nothing there and may hold the Subject."""
    if "hp-outer" in message.places:
        yield from (i for i in hiding.hidden(message.headers) if message.headers[i].name == "hp-outer")


def shown(headers: Sequence[Header]) -> tuple[Header, ...]:
    """A header as others may see it when hide applies."""
    gone = hiding.hidden(headers)
    return tuple(h for index, header in enumerate(headers) for h in _Carried(header, None, index in gone).outside)


def _carried(message: Message, edits: HeaderEdits, *, hide: bool) -> list[_Carried]:
    removed = frozenset(edits.removed)
    kept = ((header, index) for index, header in enumerate(message.headers) if index not in removed)
    come = ((Header(name.encode("ascii"), b" " + value.encode("ascii")), None) for name, value in edits.added)
    fields = [(header, index) for header, index in chain(kept, come) if not _NEVER_INSIDE.fullmatch(header.name)]
    gone = hiding.hidden([header for header, _ in fields]) if hide else frozenset()
    return [
        _Carried(_copied(header), index, place in gone)
        for place, (header, index) in enumerate(fields)
        if place in gone or not _NOT_CARRIED.fullmatch(header.name)
    ]


def _copied(header: Header) -> Header:
    """The field for a new header, without whitespace-only lines and without spaces before the colon, which some readers
    take for the end of a header."""
    name, value = header.raw_name.rstrip(b" \t"), header.raw_value
    if b"\r\n" in value:
        value = _BLANK_LINES.sub(b"", value)
    return header if (name, value) == (header.raw_name, header.raw_value) else Header(name, value)


def _names(headers: Sequence[Header]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(header.raw_name.decode("ascii", "replace") for header in headers))


def _problem(carried: Sequence[_Carried]) -> Reason | None:
    if any(len(field.header.raw_value) > _LONGEST_FIELD for field in carried):
        return Reason("field_too_long", f"a header field of more than {_LONGEST_FIELD} octets cannot be copied")
    if not all(_PROPER.fullmatch(field.header.raw_value) for field in carried):
        return Reason("malformed_field", "a header field with a bare CR or a NUL cannot be copied")
    if (count := sum(field.hidden for field in carried)) > _MOST_HIDDEN:
        return Reason("too_many_fields", f"{count} header fields to hide; the limit is {_MOST_HIDDEN}")
    return None


def _hiding(edits: HeaderEdits, hidden: Sequence[_Carried]) -> HeaderEdits:
    """The edits outside, including those that hide.  A hidden field that was to be added is not added."""
    if not hidden:
        return edits
    removed = {*edits.removed, *(field.index for field in hidden if field.index is not None)}
    dropped = {field.header.name for field in hidden if field.index is None}
    kept = [(name, value) for name, value in edits.added if name.lower() not in dropped]
    instead = [(h.raw_name.decode("ascii"), h.raw_value.decode("ascii").strip()) for f in hidden for h in f.outside]
    return HeaderEdits(tuple(sorted(removed)), (*kept, *instead))


# --- HP-Outer ----------------------------------------------------------------------------------------------


def _recorded(header: Header) -> Header:
    """HP-Outer (section 2.2.1): the name of a field that stands outside, a colon, a space and its value."""
    value = header.raw_value
    if not value.isascii():
        value = b" " + header_text.encoded(b"".join(value.split(b"\r\n")).strip())
    elif not value.startswith(b" "):
        value = b" " + value
    line = b" " + header.raw_name + b":" + value
    first = line.partition(b"\r\n")[0]
    return Header(b"HP-Outer", b"\r\n" + line if len(b"HP-Outer:" + first) > _LONGEST_LINE else line)


# --- the Content-Type --------------------------------------------------------------------------------------


def _marked(content: tuple[Header, ...]) -> tuple[Header, ...] | Reason:
    """The content fields with the parameters that announce protected header fields, or why that cannot be done."""
    places = [index for index, header in enumerate(content) if header.name == "content-type"]
    if len(places) > 1:
        return Reason("ambiguous", "there are two Content-Type fields")
    if not places:  # RFC 2045 section 5.2
        return (Header(b"Content-Type", b" text/plain; " + _WRITTEN), *content)
    extended = _extended(content[places[0]])
    if isinstance(extended, Reason):
        return extended
    return (*content[: places[0]], extended, *content[places[0] + 1 :])


def _extended(header: Header) -> Header | Reason:
    """The Content-Type with parameters appended and everything before them octet for octet; a reason if a reader would
    not find them there, or would see anything else changed."""
    kind = mime.content_type(header.raw_value)
    if kind is None:
        return Reason("malformed_content_type", "the Content-Type field is malformed")
    if kind.media_type in _LAYERS:
        return Reason("signed", f"header fields beside {kind.media_type} would not be believed")
    if any(name in kind.parameters for name in _TAKEN):
        return Reason("protected_already", "the Content-Type announces header protection already")
    wanted = mime.ContentType(kind.media_type, {**kind.parameters, **_PARAMETERS})
    for separator in (b";", b""):  # none if the value ends in one
        value = header.raw_value + separator + b"\r\n " + _WRITTEN
        if _PROPER.fullmatch(value) and mime.content_type(value) == wanted:
            return Header(header.raw_name, value)
    return Reason("malformed_content_type", "nothing can be added to the Content-Type field")
