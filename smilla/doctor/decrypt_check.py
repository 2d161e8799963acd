"""Does Postfix give each reader of smilla decrypt a copy of their own, so that mail in Cc is decrypted, too?"""

from __future__ import annotations

from collections.abc import Iterator

from smilla.adapters.postfix import Postfix
from smilla.config import Config
from smilla.doctor import attached
from smilla.doctor.attached import Attached
from smilla.doctor.finding import Finding, Kind, hint, warning
from smilla.errors import PostfixUnclear

_LIMIT = "smilla-decrypt_destination_recipient_limit"
_MAN = "see MAIL THAT IS ALSO FOR OTHERS in smilla-decrypt(8)"
_SHARED = "mail that is also for somebody without a [[decrypt_rule]] stays encrypted for all"
_TWICE = "what it says of a message the first time (Authentication-Results), it removes the second time"
_UNASKED = "nothing is decrypted: no listener names the socket of [decrypt]"
_UNKEPT = "while smilla decrypt is away, ciphertext is delivered, or mail is refused"


def problems(config: Config, asked: Postfix) -> Iterator[Finding]:
    """Nothing if nobody has a rule."""
    if not config.decrypt_rule:
        return
    try:
        settings = asked.settings((*attached.NAMES, _LIMIT))
    except PostfixUnclear as unclear:
        yield hint(Kind.DECRYPT, "postfix", f"whether smilla decrypt is asked could not be looked at: {unclear}")
        return
    site = Attached(config, settings)
    asking = [
        service
        for service in site.of("smtpd")
        if any(site.is_place(config.decrypt.socket, place, service) for _, place in site.milters(service))
    ]
    if not asking:
        line = f"smtpd_milters = {attached.as_milter(config.decrypt.socket)}, for the listener that takes inbound mail"
        yield hint(Kind.DECRYPT, "postfix", _UNASKED, line)
        return
    for service in asking:
        if settings.value(service, "milter_default_action") != "tempfail":
            yield warning(Kind.DECRYPT, "postfix", f"{service.name}: {_UNKEPT}", "milter_default_action = tempfail")
    yield from _alone(settings.service("smilla-decrypt") is not None, settings.main.get(_LIMIT, ""), len(asking))


def _alone(has_transport: bool, limit: str, listeners: int) -> Iterator[Finding]:
    """Has each recipient a copy alone?"""
    if not has_transport:
        yield hint(Kind.DECRYPT, "postfix", _SHARED, _MAN)
    elif limit != "1":
        yield warning(Kind.DECRYPT, "postfix", f"{_LIMIT} is not 1: {_SHARED}", f"{_LIMIT} = 1")
    elif listeners > 1:
        what = "several listeners ask smilla decrypt, so mail may come to it twice"
        yield warning(Kind.DECRYPT, "postfix", what, "name its socket on the listener of smilla-decrypt only", _TWICE)
