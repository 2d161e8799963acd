"""Checks the listener of [reinject] among Postfix's services: what happens to the copies that come back there."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from smilla.adapters import port_holder
from smilla.adapters.postfix import Service, port_of
from smilla.config.values import is_local
from smilla.doctor.attached import Attached, error, warning
from smilla.doctor.finding import Finding, Kind

_ADDING = ("always_bcc", "sender_bcc_maps", "recipient_bcc_maps")
_OVERRIDES = ("no_address_mappings", "no_header_body_checks")
NAMES = (*_ADDING, "content_filter", "receive_override_options", "smtpd_authorized_xforward_hosts", "smtpd_milters")


def problems(site: Attached, filtered: list[Service]) -> Iterator[Finding]:
    """What is wrong with it, beside the listeners that have the filter."""
    found = site.listener(site.config.reinject.smtp)
    yield from absent(site)
    if found is None:
        return
    if found in filtered:
        yield error(Kind.LISTENER, f"{found.name}: the copies would come to the filter again", "-o smtpd_milters=")
    if not site.settings.value(found, "smtpd_authorized_xforward_hosts"):
        what = "smilla may not say who the client was, so the copies seem to come from this machine"
        yield warning(Kind.LISTENER, f"{found.name}: {what}", "-o smtpd_authorized_xforward_hosts=127.0.0.0/8")
    yield from _mapped_twice(site, found)
    theirs = site.settings.value(found, "content_filter")
    for service in filtered:
        wanted = site.settings.value(service, "content_filter")
        if wanted and service != found and wanted != theirs:
            what = f"what is sealed skips content_filter = {wanted}, and so do its copies"
            yield warning(
                Kind.FILTERS_SKIPPED, f"{service.name}: {what}", f"on {found.name}, -o content_filter={wanted}"
            )
    yield from _skipped_by_sendmail(site)


def absent(site: Attached) -> Iterator[Finding]:
    """An error if no service of Postfix listens at [reinject] smtp: whoever does gets the copies, those in plaintext
    among them.  Nothing where Postfix is on another machine ([stage] check = false, or another host)."""
    place = site.config.reinject.smtp
    host = place.rpartition(":")[0].strip("[]")
    if not site.config.stage.check or not is_local(f"inet:{port_of(place)}@{host}"):
        return
    at_port = [service for service in site.of("smtpd") if port_of(service.name) == port_of(place)]
    if any(_has(host, service.name.rpartition(":")[0].strip("[]")) for service in at_port):
        return
    who = port_holder.holder(port_of(place))
    there = f"; {who} listens there" if who else ""
    what = f"master.cf has no listener at {place} ([reinject] smtp), so copies would go to whoever listens there{there}"
    theirs = [service.name for service in (*at_port, *site.of("smtpd")) if _is_for_copies(service)] or [
        service.name for service in at_port
    ]
    mend = f"add {place} inet n - y - - smtpd, with the options of contrib/postfix/master.cf.example"
    if theirs:
        mend = f'[reinject] smtp = "{theirs[0]}", which master.cf has, or {mend}'
    yield error(Kind.LISTENER, what, mend)


def _has(host: str, theirs: str) -> bool:
    """Does a service at the address ``theirs`` listen at ``host``?  Names are not looked up."""
    if theirs in ("", "0.0.0.0", "::", host):  # noqa: S104 - what master.cf has
        return True
    try:
        return ipaddress.ip_address(theirs) == ipaddress.ip_address(host)
    except ValueError:
        return True


def _is_for_copies(service: Service) -> bool:
    return service.options.get("syslog_name") == "postfix/reinject"


def _skipped_by_sendmail(site: Attached) -> Iterator[Finding]:
    """Mail from sendmail(1) that is looped through SMTP has pickup's content_filter, and no other."""
    wanted = site.settings.main.get("content_filter", "")
    for pickup in site.of("pickup"):
        theirs = site.settings.value(pickup, "content_filter")
        found = site.listener(theirs)
        if found is not None and wanted not in ("", theirs, site.settings.value(found, "content_filter")):
            what = f"what {pickup.name} sends to {found.name} skips content_filter = {wanted}"
            yield warning(
                Kind.FILTERS_SKIPPED, f"{pickup.name}: {what}", f"on {found.name}, -o content_filter={wanted}"
            )


def _mapped_twice(site: Attached, listener: Service) -> Iterator[Finding]:
    words = re.split(r"[\s,]+", site.settings.value(listener, "receive_override_options"))
    added = [name for name in _ADDING if site.settings.main.get(name)]
    if added and _OVERRIDES[0] in words:
        what = f"whom {' and '.join(added)} adds the seal does not name: ciphertext for their own key, or nothing"
        line = f"-o receive_override_options={_OVERRIDES[1]} gives them a copy of each copy"
        yield warning(Kind.LISTENER, f"{listener.name}: {what}", line)
    elif not added and any(word not in words for word in _OVERRIDES):
        what = "aliases and header_checks are applied to the copies again"
        yield warning(Kind.LISTENER, f"{listener.name}: {what}", f"-o receive_override_options={','.join(_OVERRIDES)}")
