"""Does the directory of [ldap] answer the filter's user, step by step: name, connection, TLS, bind, base, read rights?

Promises: it ends within a quarter of a minute, whatever the server does, and asks as the filter asks.  No value of any
entry is shown.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smilla.adapters import as_user
from smilla.config import Config
from smilla.config.options import LDAPOptions
from smilla.doctor.finding import Finding, Kind, error, fine, hint, warning
from smilla.doctor.rights import Service
from smilla.errors import DirectoryError, DirectoryStep, SmillaError
from smilla.keys.discovery import ldap
from smilla.server.runtime import make_directory

_ASK_S, _CHILD_S = 10.0, 15.0
_SUCCESS, _REFERRAL, _SIZE_LIMIT, _OPERATIONS, _NO_SUCH, _DENIED = 0, 10, 4, 1, 32, 50  # RFC 4511 section 4.1.9
_INVALID_CREDENTIALS = 49
_ANYTHING = "(objectClass=*)"
_WHY = "mail to the domains of the directory is deferred, unless an earlier source has a key"
_BIND = "set [ldap] bind_dn and password_file, of an account that may read these entries"
_MENDS = {
    DirectoryStep.NAME: "correct [ldap] url, or the name servers in /etc/resolv.conf",
    DirectoryStep.CONNECTION: "start the server, let the firewall pass this port, or correct [ldap] url",
    DirectoryStep.TLS: "let the server offer StartTLS (slapd: TLSCertificateFile), or write ldaps:// in [ldap] url",
    DirectoryStep.CERTIFICATE: "name the file with the authority that signed it in [ldap] ca_file, or renew it",
    DirectoryStep.BIND: _BIND,
}
_NO_KEYS = "nobody below base has a certificate or key that this user may search for, so all addresses look as without"
_READ = "let it search and read {} (slapd: access to attrs=userCertificate,pgpKey by dn.exact={} read)"
_NOBODY = "who asks without a name (set [ldap] bind_dn), say"


def problems(config: Config, service: Service) -> Iterator[Finding]:
    """Nothing where no source is ldap."""
    if "ldap" not in config.keys.sources:
        return
    try:
        told = as_user.answer(service.user, lambda: [asdict(found) for found in _asked(config)], _CHILD_S)
    except (SmillaError, OSError) as unclear:
        yield hint(Kind.ASKS, _subject(config.ldap), f"not asked as {service.user.name}, whose filter it is: {unclear}")
        return
    yield from (Finding(**{**each, "kind": Kind(each["kind"])}) for each in told)
    yield from _overlooked(config.ldap.password_file)


def _overlooked(path: str) -> Iterator[Finding]:
    with suppress(OSError):
        if path and Path(path).stat().st_mode & stat.S_IROTH:
            yield warning(Kind.RIGHTS_TOO_WIDE, f"file {path}", "everybody may read this password", f"chmod o-r {path}")


def _subject(options: LDAPOptions) -> str:
    return f"directory {options.url}"


def _asked(config: Config) -> Iterator[Finding]:
    """Stops at the first step that fails."""
    options = config.ldap
    try:
        with make_directory(config, _ASK_S).bound(options.bind_dn, options.password_file) as bound:
            yield from _searched(bound, options)
    except DirectoryError as failed:
        text = str(failed).removeprefix(f"{options.url}: ")
        yield error(Kind.LDAP, _subject(options), text, _mend(failed, options), _WHY)


def _mend(failed: DirectoryError, options: LDAPOptions) -> str:
    """The line for the step that failed."""
    is_refused = failed.step is DirectoryStep.BIND and failed.result == _INVALID_CREDENTIALS
    if is_refused or failed.step is DirectoryStep.FILE:
        return f"correct [ldap] bind_dn ({options.bind_dn}), or the first line of {options.password_file}"
    if failed.step is DirectoryStep.CERTIFICATE and "match" in str(failed):
        return "write a name that is in the certificate in [ldap] url"
    if failed.step is DirectoryStep.TLS and options.url.startswith("ldaps"):
        return "let the server speak TLS on that port; for StartTLS write ldap:// with port 389 in [ldap] url"
    return _MENDS.get(failed.step or DirectoryStep.SEARCH, "see the log of the server")


def _searched(bound: Any, options: LDAPOptions) -> Iterator[Finding]:
    subject = _subject(options)
    code, text, *_ = bound.search(options.base, _ANYTHING, only_base=True)
    if code not in (_SUCCESS, _SIZE_LIMIT):
        yield error(Kind.LDAP, subject, f"base {options.base}: {text}", _of_base(code, options), _WHY)
        return
    has_key, found_by_filter = ldap.holders(options.filter)
    code, text, entries, _ = bound.search(options.base, has_key)
    if code not in (_SUCCESS, _SIZE_LIMIT, _REFERRAL):
        yield error(Kind.LDAP, subject, f"below base {options.base}: {text}", _of_base(code, options), _WHY)
        return
    who = options.bind_dn or "anonymous"
    if not entries:
        yield warning(Kind.LDAP, subject, _NO_KEYS, _grant("entries and both attributes", who))
        return
    if not any(values for _, values in entries):
        what = "this user may search for userCertificate or pgpKey, but not read them: every address looks as without"
        yield error(Kind.LDAP, subject, what, _grant("both attributes", who))
        return
    code, text, entries, _ = bound.search(options.base, found_by_filter)
    if code in (_SUCCESS, _SIZE_LIMIT, _REFERRAL) and entries:
        yield fine(Kind.LDAP, subject, f"answers {who} over verified TLS, and has keys below {options.base}")
        return
    what = f"filter {options.filter} finds nobody who has a certificate or key ({text})"
    mend = "name the attribute that has the address in [ldap] filter (Active Directory: mail or proxyAddresses)"
    yield error(Kind.LDAP, subject, what, mend, "all addresses look as if they had no key")


def _grant(what: str, who: str) -> str:
    return _READ.format(what, who)


def _of_base(code: int, options: LDAPOptions) -> str:
    if code == _NO_SUCH:
        return f'correct [ldap] base ("{options.base}"), or let {options.bind_dn or _NOBODY} see it'
    if code == _REFERRAL:
        return "name the server that has this base in [ldap] url; no referral is followed"
    if code in (_DENIED, _OPERATIONS):
        return _BIND if not options.bind_dn else _grant("the base and all below", options.bind_dn)
    return "correct [ldap] base"
