"""What [transport] rests on in Postfix: STARTTLS, whom Postfix trusts for client certificates, and the verifiers before
smilla, which have to remove what claims their results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from smilla.adapters.circles import certificates
from smilla.adapters.postfix import Postfix, Service
from smilla.config import Config
from smilla.doctor import attached
from smilla.doctor.attached import Attached
from smilla.doctor.finding import Finding, Kind, error, fine, hint, warning
from smilla.doctor.verifiers import Removes, Verifier, judged
from smilla.errors import ConfigError, PostfixUnclear

_TLS = (
    "smtpd_tls_security_level",
    "smtpd_use_tls",
    "smtpd_enforce_tls",
    "smtpd_tls_wrappermode",
    "smtpd_tls_CAfile",
    "smtpd_tls_CApath",
    "smtpd_tls_ask_ccert",
    "smtpd_tls_req_ccert",
    "tls_append_default_CA",
)
_OFFERS = {"smtpd_use_tls": "yes", "smtpd_enforce_tls": "yes", "smtpd_tls_wrappermode": "yes"}
_FORGED = "whoever believes such a field takes a stranger's dkim=pass or dmarc=pass for yours"
_MEND = "OpenDKIM before smilla, with AuthservID {0}, RemoveARAll yes and RemoveARFrom csl:{0}"
_SENDMAIL = (
    "whether the filters before smilla remove Authentication-Results fields of {} that came from outside was not "
    "looked at; it is theirs, save x-tls"
)
_SENDMAIL_TRUSTS = "the option circles is safe only if confCACERT and confCACERT_PATH have nothing but the circles' own"


def problems(config: Config, asked: Postfix | None, root: Path = Path("/")) -> Iterator[Finding]:
    """Nothing if [transport] is off.  ``asked`` is None if the MTA is none that can be asked."""
    if not config.transport.authserv_id or config.mode == "outbound":
        return
    if asked is None:
        yield hint(Kind.TRANSPORT, "", _SENDMAIL.format(config.transport.authserv_id))
        if config.transport.circles:
            yield hint(Kind.TRANSPORT, "", _SENDMAIL_TRUSTS)
        return
    try:
        settings = asked.settings((*attached.NAMES, *_TLS))
    except PostfixUnclear as unclear:
        what = f"whether its verifiers remove what is forged could not be looked at: {unclear}"
        yield hint(Kind.TRANSPORT, "postfix", what)
        return
    yield from _Check(Attached(config, settings), root).problems()


@dataclass(frozen=True, slots=True)
class _Check:
    site: Attached
    root: Path

    def problems(self) -> Iterator[Finding]:
        services = self.site.filtered()
        if not services:
            what = "no listener names smilla's socket, so what comes before smilla was not looked at"
            yield hint(Kind.TRANSPORT, "postfix", what)
        for service in services:
            if not self._offers_tls(service):
                what = f"{service.name}: offers no TLS, so all mail that comes here is told x-tls=none"
                yield hint(Kind.TRANSPORT, "postfix", what, "smtpd_tls_security_level = may")
            yield from self._verifiers(service)
            if self.site.config.transport.circles:
                yield from self._circles(service)

    def _value(self, service: Service, name: str) -> str:
        return self.site.settings.value(service, name)

    def _offers_tls(self, service: Service) -> bool:
        level = self._value(service, "smtpd_tls_security_level")
        return level not in ("", "none") or any(self._value(service, name) == yes for name, yes in _OFFERS.items())

    # --- verifiers

    def _verifiers(self, service: Service) -> Iterator[Finding]:
        name = self.site.config.transport.authserv_id
        found = {place: self._judged(place, service) for place in self._before(service)}
        if any(each.removes is Removes.ALL for each in found.values()):
            text = f"{service.name}: a verifier before smilla removes forged Authentication-Results fields of {name}"
            yield fine(Kind.TRANSPORT, "postfix", text)
            return
        for place, each in found.items():
            if each.removes is Removes.UNKNOWN:
                what = f"{service.name}: could not see what {each.program or place} removes: {each.why}"
                yield hint(Kind.TRANSPORT, "postfix", what)
        if any(each.removes is Removes.UNKNOWN for each in found.values()):
            return
        what = f"{service.name}: Authentication-Results fields of {name} that came from outside stay, save those with "
        what += "x-tls or dkim results" if any(e.removes is Removes.DKIM for e in found.values()) else "x-tls"
        told = "; ".join(f"{each.program}: {each.why}" for each in found.values() if each.why)
        yield warning(Kind.TRANSPORT, "postfix", what + (f" ({told})" if told else ""), _MEND.format(name), _FORGED)

    def _before(self, service: Service) -> list[str]:
        places = [place for _, place in self.site.milters(service)]
        own = next(n for n, place in enumerate(places) if self.site.is_ours(place, service))
        return places[:own]

    def _judged(self, place: str, service: Service) -> Verifier:
        def is_place(socket: str) -> bool:
            return bool(socket) and self.site.is_place(socket, place, service)

        return judged(place, is_place, self.site.config.transport.authserv_id, self.root)

    # --- circles

    def _circles(self, service: Service) -> Iterator[Finding]:
        """The MTA's macros tell an issuer by name, and any authority that it trusts may give itself or another one that
        name."""
        if "yes" not in (self._value(service, "smtpd_tls_ask_ccert"), self._value(service, "smtpd_tls_req_ccert")):
            what = f"{service.name}: asks no client for a certificate, so no circle is ever told"
            yield hint(Kind.TRANSPORT, "postfix", what, "smtpd_tls_ask_ccert = yes")
            return
        why = "a certificate that such an authority issues in the name of a circle's counts as the circle's"
        mend = "smtpd_tls_CAfile with the circles' authorities alone, or [transport] circles = false"
        for name, usual in (("smtpd_tls_CApath", ""), ("tls_append_default_CA", "no")):
            if (value := self._value(service, name)) not in (usual, ""):
                what = f"{service.name}: {name} = {value}, so Postfix trusts more authorities than the circles'"
                yield error(Kind.TRANSPORT, "postfix", what, mend, why)
        path = self._value(service, "smtpd_tls_CAfile")
        try:
            ours = {_der(each) for circle in self.site.config.circle for each in certificates(circle.ca_file)}
            others = [each for each in certificates(path) if _der(each) not in ours] if path else []
        except ConfigError:
            what = f"{service.name}: whom smtpd_tls_CAfile = {path} trusts could not be read"
            yield warning(Kind.TRANSPORT, "postfix", what, mend, why)
            return
        if others:
            what = f"{service.name}: smtpd_tls_CAfile = {path} has {len(others)} authorities that are in no [[circle]]"
            yield error(Kind.TRANSPORT, "postfix", what, mend, why)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
