"""The certificate that the relay shows to its clients: can it be used, for how long, and who may read its key?"""

from __future__ import annotations

import shlex
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from smilla.config.options import RelayOptions
from smilla.config.values import is_local
from smilla.doctor.finding import Finding, Kind, error, fine, hint, warning
from smilla.errors import ConfigError
from smilla.server.runtime import make_relay_tls

_SOON = timedelta(days=14)
_WAITS = "a client that verifies it keeps its mail until then"
_RELOAD = "put a new one there, and reload the relay"


def problems(options: RelayOptions, now: datetime) -> Iterator[Finding]:
    """Nothing if it has none.  The certificate's own problem comes first; a key that others may read counts anyway."""
    if not options.tls_certificate:
        return
    subject = f"relay certificate {options.tls_certificate}"
    if not options.tls_required and not is_local(options.socket):
        what = f"other machines reach {options.socket}, and may send in the clear (tls_required = false)"
        yield warning(Kind.OPEN_SOCKET, subject, what, "tls_required = true", "plaintext may be on the wire")
    yield from _of_key(Path(options.tls_key or options.tls_certificate), subject)
    try:
        first, *_ = x509.load_pem_x509_certificates(Path(options.tls_certificate).read_bytes())
        make_relay_tls(options)
    except (ConfigError, ValueError, PermissionError) as fault:
        if isinstance(fault, PermissionError) or isinstance(fault.__cause__, PermissionError):
            yield hint(Kind.ASKS, subject, "this user may not read it or its key, so it was not tried")
        else:
            yield error(Kind.CERTIFICATE, subject, f"cannot be used: {fault}", "", "the relay does not start with it")
        return
    except OSError as fault:
        yield error(Kind.CERTIFICATE, subject, f"cannot be read: {fault.strerror}")
        return
    ends_at = first.not_valid_after_utc
    if ends_at < now:
        yield error(Kind.CERTIFICATE, subject, f"ended on {ends_at:%Y-%m-%d}", _RELOAD, _WAITS)
    elif first.not_valid_before_utc > now:
        yield error(Kind.CERTIFICATE, subject, f"begins on {first.not_valid_before_utc:%Y-%m-%d}", "", _WAITS)
    elif ends_at < now + _SOON:
        yield warning(Kind.CERTIFICATE, subject, f"ends on {ends_at:%Y-%m-%d}", _RELOAD)
    else:
        yield fine(Kind.CERTIFICATE, subject, f"is in order until {ends_at:%Y-%m-%d}")


def _of_key(path: Path, subject: str) -> Iterator[Finding]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & stat.S_IRWXO:
        what = f"everybody on this machine may {'read' if mode & stat.S_IROTH else 'change'} its private key {path}"
        why = "whoever has it can take the relay's place and get the mail in plaintext"
        yield error(Kind.RIGHTS_TOO_WIDE, subject, what, f"chmod o= {shlex.quote(str(path))}", why)
