"""Which size does Postfix take?  For ``smilla config check --postfix``, which tells the filter."""

from __future__ import annotations

from smilla.adapters.postfix import Postfix
from smilla.errors import PostfixUnclear

_NAME = "message_size_limit"
_COUNTS = ("smtpd", "cleanup")  # the programs that refuse a larger message


def limit(asked: Postfix) -> int:
    """The largest message that every listener takes, in octets, envelope included; 0 if there is no limit, if services
    have different ones, or if nobody can tell."""
    try:
        settings = asked.settings((_NAME,))
    except PostfixUnclear:
        return 0
    found = {settings.value(service, _NAME) for service in settings.services if service.program in _COUNTS}
    value = found.pop() if len(found) == 1 else ""
    return int(value) if value.isascii() and value.isdigit() else 0
