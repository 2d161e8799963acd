"""The files of authorities of the circles: can Postfix use each one, and for how long?  Where it cannot, no mail for
the circle leaves, and only Postfix's log says so."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from smilla.adapters.circles import certificates
from smilla.config.options import Circle
from smilla.doctor.finding import Finding, Kind, error, warning
from smilla.errors import ConfigError

_SOON = timedelta(days=30)
_WAITS = "without it, mail for the circle waits until it bounces"
_NEW = "make another authority and give all members both (smilla-hops(7))"


def problems(circles: Iterable[Circle], now: datetime) -> Iterator[Finding]:
    """What is wrong with the file of each circle."""
    for circle in circles:
        yield from _of(Path(circle.ca_file), f"circle {circle.name}", now)


def _of(path: Path, subject: str, now: datetime) -> Iterator[Finding]:
    try:
        found = certificates(str(path))
    except ConfigError as fault:
        yield error(Kind.CIRCLE, subject, f"no authority can be read: {fault}", "put circle.pem there", _WAITS)
        return
    with suppress(OSError):
        if b"PRIVATE KEY-----" in path.read_bytes():
            what = f"{path} has a private key, and everybody may read it where Postfix can"
            yield error(
                Kind.CIRCLE, subject, what, f"leave nothing but certificates there, and make {_other_key(found)}"
            )
    if (shut := _shut(path)) is not None:
        what = f"{shut} cannot be read by everybody, so perhaps not by Postfix's client either"
        yield warning(Kind.CIRCLE, subject, what, f"chmod o+{'x' if shut.is_dir() else 'r'} {shut}", _WAITS)
    for one in found:
        if not _is_authority(one):
            what = f"{one.subject.rfc4514_string()} in {path} is no authority, but somebody's own certificate"
            yield warning(Kind.CIRCLE, subject, what, "put the authority's there")
    yield from _lasting(found, path, subject, now)


def _other_key(found: Iterable[x509.Certificate]) -> str:
    return "another authority" if any(_is_authority(one) for one in found) else "another key and certificate"


def _shut(path: Path) -> Path | None:
    """The file, or the folder above it, that not everybody may read or enter."""
    try:
        real = path.resolve()
        for folder in reversed(real.parents):
            if not folder.stat().st_mode & stat.S_IXOTH:
                return folder
        return None if real.stat().st_mode & stat.S_IROTH else real
    except OSError:
        return path


def _is_authority(one: x509.Certificate) -> bool:
    try:
        return one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _lasting(found: list[x509.Certificate], path: Path, subject: str, now: datetime) -> Iterator[Finding]:
    ends_at = max(one.not_valid_after_utc for one in found)
    if ends_at < now:
        yield error(Kind.CIRCLE, subject, f"the authority in {path} ended on {ends_at:%Y-%m-%d}", _NEW, _WAITS)
    elif ends_at < now + _SOON:
        yield warning(Kind.CIRCLE, subject, f"the authority in {path} ends on {ends_at:%Y-%m-%d}", _NEW)
