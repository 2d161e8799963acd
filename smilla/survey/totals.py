"""Adds up what a survey found: for each thing, how many domains are of which kind.  Pure.

A domain counts once in each table.  With several servers the worst one counts, since a sender may meet it: a domain has
STARTTLS if every server that answered offers it, and its TLS version is the oldest.  Domains that take no mail are left
out of the tables about servers, and said to be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from smilla.hops.mx import State
from smilla.model import DNSSECStatus
from smilla.survey.found import Found, Host, Names, Result, Server, Way
from smilla.value import value

_UNTOLD = (State.UNREACHABLE, State.UNCLEAR, State.BOGUS)
_NONE = (State.ABSENT, State.UNSIGNED)
NO_MAIL, UNKNOWN = "takes no mail", "nobody can tell"


@value
class Kind:
    """One row: ``tone`` is good, fair, bad or quiet."""

    name: str
    tone: str
    count: int = 0


@value
class Table:
    """``of`` is how many domains were counted."""

    title: str
    note: str
    kinds: tuple[Kind, ...]

    @property
    def of(self) -> int:
        """All that were counted."""
        return sum(kind.count for kind in self.kinds)


@value
class _Question:
    title: str
    note: str
    kinds: Sequence[tuple[str, str]]
    of: Callable[[Found], str]


def tables(all_found: Sequence[Found]) -> list[Table]:
    """In the order of the report."""
    found = []
    for question in _QUESTIONS:
        counted = Counter(map(question.of, all_found))
        kinds = tuple(Kind(name, tone, counted[name]) for name, tone in question.kinds)
        found.append(Table(question.title, question.note, kinds))
    return found


def _servers(found: Found) -> list[Server]:
    return [server for host in found.hosts for server in host.servers]


def _without(found: Found) -> str:
    """Why nothing can be said about a domain's servers."""
    return NO_MAIL if found.way is Way.NO_MAIL else UNKNOWN


def starttls(found: Found) -> str:
    """Do its servers offer STARTTLS?"""
    states = {server.starttls.state for server in _servers(found)} & {State.OK, State.MISSING}
    if not states:
        return _without(found)
    if len(states) == 2:
        return "some servers"
    return "every server" if State.OK in states else "no server"


def tls_version(found: Found) -> str:
    """The oldest version that was agreed upon with a server."""
    versions = sorted(server.version for server in _servers(found) if server.version)
    if versions:
        return versions[0] if versions[0] in _VERSIONS else "older"
    return "no STARTTLS" if starttls(found) == "no server" else _without(found)


def certificate(found: Found) -> str:
    """The worst certificate of its servers."""
    servers = [server for server in _servers(found) if server.certificate and server.chain]
    if not servers:
        return "no STARTTLS" if starttls(found) == "no server" else _without(found)
    states = {server.certificate.state for server in servers if server.certificate}
    if states & {State.EXPIRED, State.NOT_YET_VALID}:
        return "expired"
    if all(server.chain and server.chain.state is State.OK for server in servers):
        return "valid for the host"
    return "not verified"


def dnssec(found: Found) -> str:
    """Of the zone and the MX records."""
    statuses = {found.zone, found.mx_dnssec}
    if statuses & {DNSSECStatus.BOGUS, DNSSECStatus.INDETERMINATE}:
        return "bogus"
    if DNSSECStatus.UNREACHABLE in statuses:
        return UNKNOWN
    return "signed" if statuses == {DNSSECStatus.SECURE} else "not signed"


def dane(found: Found) -> str:
    """TLSA records of the MX hosts against what the servers present."""
    if not found.hosts:
        return _without(found)
    kinds = {_dane(host) for host in found.hosts if host.servers or host.tlsa}
    if "wrong" in kinds:
        return "does not match"
    if "right" in kinds:
        if found.mx_dnssec != DNSSECStatus.SECURE:
            return "of no use"
        return "matches in part" if kinds - {"right"} else "matches"
    for kind in ("of no use", "none"):
        if kind in kinds:
            return kind
    return _without(found)


def _dane(host: Host) -> str:
    states = {server.tlsa.state for server in host.servers if server.tlsa}
    if states & {State.MISMATCH, State.BOGUS} or host.tlsa_dnssec in (DNSSECStatus.BOGUS, DNSSECStatus.INDETERMINATE):
        return "wrong"
    if State.OK in states:
        return "right"
    if host.tlsa_dnssec == DNSSECStatus.UNREACHABLE:
        return UNKNOWN
    if not host.tlsa:
        return "none"
    if states or host.tlsa_dnssec != DNSSECStatus.SECURE:
        return "of no use"
    return "wrong" if any(server.starttls.state is State.MISSING for server in host.servers) else UNKNOWN


def sts(found: Found) -> str:
    """The policy of MTA-STS."""
    state = found.mta_sts.state
    if state is State.OK:
        return f"mode {found.mta_sts_mode}"
    if state in _NONE:
        return "none"
    return UNKNOWN if state in _UNTOLD else "broken"


def keys(found: Found) -> str:
    """Has it zones of keys with names?"""
    zones = {"S/MIME": found.smimea, "OpenPGP": found.openpgpkey}
    having = [name for name, zone in zones.items() if zone is Names.HAS_NAMES]
    if having:
        return " and ".join(having)
    return "none" if set(zones.values()) == {Names.NONE} else UNKNOWN


def _record(result: Result, said: str) -> str:
    if result.state is State.OK:
        return said
    if result.state in _NONE:
        return "no record"
    return UNKNOWN if result.state in _UNTOLD else "broken"


_VERSIONS = ("TLSv1.2", "TLSv1.3")
_REST = [(NO_MAIL, "quiet"), (UNKNOWN, "quiet")]
_QUESTIONS = (
    _Question(
        "How smilla would send",
        "A zone of keys counts as S/MIME or OpenPGP: some address there may have a key.",
        [
            *((way.value, "good") for way in (Way.SMIME, Way.OPENPGP, Way.CIRCLE, Way.DANE, Way.MTA_STS)),
            (Way.OPPORTUNISTIC.value, "fair"),
            (Way.PLAIN.value, "bad"),
            (Way.NOT_NOW.value, "bad"),
            (Way.NO_MAIL.value, "quiet"),
            (Way.UNKNOWN.value, "quiet"),
        ],
        lambda found: found.way.value,
    ),
    _Question(
        "STARTTLS",
        "Offered by the servers of the MX hosts.",
        [("every server", "good"), ("some servers", "fair"), ("no server", "bad"), *_REST],
        starttls,
    ),
    _Question(
        "TLS version",
        "The oldest that was agreed upon with a server of the domain.",
        [("TLSv1.3", "good"), ("TLSv1.2", "good"), ("older", "bad"), ("no STARTTLS", "bad"), *_REST],
        tls_version,
    ),
    _Question(
        "Certificates",
        "Valid: an authority vouches for it, and it names the MX host. The worst server counts.",
        [("valid for the host", "good"), ("not verified", "fair"), ("expired", "bad"), ("no STARTTLS", "bad"), *_REST],
        certificate,
    ),
    _Question(
        "DNSSEC",
        "Of the zone and its MX records.",
        [("signed", "good"), ("not signed", "fair"), ("bogus", "bad"), (UNKNOWN, "quiet")],
        dnssec,
    ),
    _Question(
        "DANE",
        "TLSA records against what the servers present.",
        [
            ("matches", "good"),
            ("matches in part", "good"),
            ("does not match", "bad"),
            ("of no use", "fair"),
            ("none", "fair"),
            *_REST,
        ],
        dane,
    ),
    _Question(
        "MTA-STS",
        "Broken: announced, and no sender finds a policy, or it does not allow the MX hosts.",
        [
            ("mode enforce", "good"),
            ("mode testing", "fair"),
            ("mode none", "fair"),
            ("broken", "bad"),
            ("none", "fair"),
            (UNKNOWN, "quiet"),
        ],
        sts,
    ),
    _Question(
        "SPF",
        "What the record says of all others.",
        [
            ("-all", "good"),
            ("~all", "good"),
            ("redirect", "good"),
            ("?all", "fair"),
            ("+all", "bad"),
            ("broken", "bad"),
            ("no record", "bad"),
            (UNKNOWN, "quiet"),
        ],
        lambda found: _record(found.spf, found.spf_all),
    ),
    _Question(
        "DMARC",
        "The policy for mail that fails.",
        [
            ("reject", "good"),
            ("quarantine", "good"),
            ("policy none", "fair"),
            ("broken", "bad"),
            ("no record", "bad"),
            (UNKNOWN, "quiet"),
        ],
        lambda found: _record(found.dmarc, found.dmarc_policy.replace("no record", "policy none")),
    ),
    _Question(
        "TLSRPT",
        "Asks for reports about TLS.",
        [("present", "good"), ("broken", "bad"), ("no record", "fair"), (UNKNOWN, "quiet")],
        lambda found: _record(found.tlsrpt, "present"),
    ),
    _Question(
        "Keys in DNS",
        "The zones of SMIMEA and OPENPGPKEY records have names.",
        [
            ("S/MIME and OpenPGP", "good"),
            ("S/MIME", "good"),
            ("OpenPGP", "good"),
            ("none", "fair"),
            (UNKNOWN, "quiet"),
        ],
        keys,
    ),
)
COLUMNS = tuple(question.title for question in _QUESTIONS)


def cells(found: Found) -> list[Kind]:
    """What one domain is of each kind, in the order of COLUMNS."""
    answers = [(question.of(found), dict(question.kinds)) for question in _QUESTIONS]
    return [Kind(name, tones.get(name, "quiet"), 1) for name, tones in answers]
