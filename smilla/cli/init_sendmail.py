"""The lines that attach smilla to Sendmail, for ``smilla init``: those of contrib/sendmail."""

from __future__ import annotations

from collections.abc import Iterator

from smilla.config import Config

_TIMES = "F=T, T=C:30s;S:60s;R:120s;E:300s"


def lines(config: Config) -> Iterator[str]:
    """What sendmail.mc gets.  Where copies are re-injected, a listener without the filter is needed, so each daemon
    names its filters."""
    splits = config.policy.mixed in ("", "reinject")
    macro = "MAIL_FILTER" if splits else "INPUT_MAIL_FILTER"
    yield f"{macro}(`smilla', `S={config.milter.socket}, {_TIMES}')dnl"
    yield "define(`confMILTER_MACROS_CONNECT', confMILTER_MACROS_CONNECT`, v')dnl"
    if splits:
        host, _, port = config.reinject.smtp.rpartition(":")
        yield "dnl These replace your own DAEMON_OPTIONS for the same ports."
        yield "DAEMON_OPTIONS(`Name=MTA, Port=smtp, InputMailFilters=smilla')dnl"
        yield "DAEMON_OPTIONS(`Name=ORIGINATING, Port=submission, M=Ea, InputMailFilters=smilla')dnl"
        yield f"DAEMON_OPTIONS(`Name=reinject, Addr={host}, Port={port}')dnl"
