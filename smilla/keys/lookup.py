"""From an address to a key, or to every reason why there is none: discovery, then validity, source by source.

The first source with a usable key ends the search.  If no source has one, the worst verdict decides: bogus, then
unreachable, unclear, unusable_key, insecure, no_key.  no_key is proven absence.  A source that we could not ask is
unclear, which comes before every verdict that may allow plaintext.

If formats are given, in order of preference, the first of them with a usable key wins, whatever the order of the
sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache

from smilla.address import EmailAddress
from smilla.config import Config
from smilla.config.options import OUTSIDE_DNS
from smilla.encrypt import cms
from smilla.keys import choice
from smilla.keys.discovery import finder, learned
from smilla.keys.memory import Memory
from smilla.keys.questions import BoundedResolver, BoundedSource, MessageQuestions
from smilla.keys.validity import pgp, whose, x509
from smilla.model import (
    RESTS_ON,
    Assessment,
    DNSSECStatus,
    Format,
    Judgement,
    KeyLookup,
    KeyVerdict,
    PGPKey,
    Reason,
    SourceAnswer,
    SourceFinding,
    X509Key,
)
from smilla.policy.rules import is_in
from smilla.ports import PendingLookup, Ports, Resolver, SourceQuestion

_JUDGED_FOR = timedelta(minutes=1)
_A_JUDGEMENT, _OF_A_RECORD, _OF_AN_OCTET = 3000, 700, 2  # octets, as measured
_PRECEDENCE = (
    KeyVerdict.BOGUS,
    KeyVerdict.UNREACHABLE,
    KeyVerdict.UNCLEAR,
    KeyVerdict.UNUSABLE_KEY,
    KeyVerdict.INSECURE,
    KeyVerdict.NO_KEY,
)
_Judged = tuple[SourceFinding, X509Key | PGPKey | None]
_UNPROVEN = {
    DNSSECStatus.BOGUS: KeyVerdict.BOGUS,
    DNSSECStatus.INDETERMINATE: KeyVerdict.BOGUS,
    DNSSECStatus.UNREACHABLE: KeyVerdict.UNREACHABLE,
}


def begin(
    address: EmailAddress,
    ports: Ports,
    config: Config,
    asked: MessageQuestions | None = None,
    trust: tuple[str, ...] = (),
) -> PendingLookup:
    """Sends the questions to the sources, and returns at once.  All sources are asked, whatever formats are wanted: a
    key of another format is not absence.  ``asked`` are the questions of the message.  ``trust`` replaces [keys] trust:
    a source that it leaves out is as good as none, so neither its keys nor its failures count."""
    words = trust or config.keys.trust
    sources = tuple(s for s in config.keys.sources if not words or RESTS_ON[s] in words)
    is_local = is_in(address.domain, config.local_domains)
    spelling = finder.Spelling(config.keys.try_lowercase, config.keys.subaddress, is_local)
    resolver: Resolver = ports.resolver
    if asked is not None:
        resolver = BoundedResolver(resolver, asked)
        if ports.network:
            bounded = {name: BoundedSource(name, source, asked) for name, source in ports.network.items()}
            ports = replace(ports, network=bounded)
    questions = finder.begin(address, sources, resolver, ports, spelling)
    untrusted = tuple(source for source in config.keys.sources if source not in sources)
    return PendingLookup(address, questions, ports.clock.monotonic(), config.keys.prefer, untrusted)


def begin_of_rule(address: EmailAddress, key_file: str, ports: Ports, config: Config) -> PendingLookup:
    """The same where a rule names the file of the key: no source is asked, and there is nothing to wait for."""
    return PendingLookup(address, (finder.of_rule(key_file, ports),), ports.clock.monotonic(), config.keys.prefer)


def finish(
    pending: PendingLookup, deadline: float, now: datetime, ports: Ports, formats: tuple[str, ...] = ()
) -> KeyLookup:
    """Waits for the answers, no longer than ``deadline`` (monotonic seconds), and judges them as of ``now``."""
    findings: list[SourceFinding] = []
    for answer in _answers(pending, deadline, formats):
        others = _others(answer, pending, deadline)
        finding, key = _judge_once(answer, pending, now, ports, others)
        findings.append(finding)
        if key is not None:
            engine = ports.openpgp.only_by(key) if isinstance(key, PGPKey) else ""
            return _looked_up(pending, finding, key, findings, engine)
    findings += _of_other_formats(pending, deadline, now, ports, formats)
    if not findings:
        what = f"has keys for {' or '.join(formats)}" if formats else "rests on what is trusted"
        reason = Reason("no_source", f"no source of [keys] sources {what}")
        return KeyLookup(pending.address, KeyVerdict.UNCLEAR, reason, None, "", None, untrusted=pending.untrusted)
    if all(finding.verdict is KeyVerdict.NO_KEY for finding in findings):
        for finding, key in _from_mail(pending, deadline, now, ports, formats):
            findings.append(finding)
            if key is not None:
                engine = ports.openpgp.only_by(key) if isinstance(key, PGPKey) else ""
                return _looked_up(pending, finding, key, findings, engine)
    deciding = min(findings, key=_precedence)
    return _looked_up(pending, deciding, None, findings)


def judged(answer: SourceAnswer, pending: PendingLookup, now: datetime, ports: Ports) -> KeyLookup:
    """What the gate says of one answer alone."""
    finding, key = _judge(answer, pending, now, ports, ())
    return _looked_up(pending, finding, key, [finding])


def _published(pending: PendingLookup) -> Iterator[SourceQuestion]:
    """The questions to all sources but that of learned keys."""
    return (question for question in pending.questions if question.source != learned.SOURCE)


def _from_mail(
    pending: PendingLookup, deadline: float, now: datetime, ports: Ports, formats: tuple[str, ...]
) -> Iterator[_Judged]:
    """The learned keys, which are asked for only where all else proves absence.  One in another format than those that
    are wanted is none: nobody has published it."""
    for question in pending.questions:
        if question.source == learned.SOURCE:
            answer = question.answer(deadline)
            wanted = [_of_format(answer, form) for form in formats] if formats else [answer]
            yield from (_judge_once(one, pending, now, ports, ()) for one in wanted)


def _answers(pending: PendingLookup, deadline: float, formats: tuple[str, ...]) -> Iterator[SourceAnswer]:
    """The sources' answers in the order in which we take keys from them.  A source that has several formats answers
    once for each."""
    if not formats:
        for question in _published(pending):
            yield question.answer(deadline)
    for wanted in formats:
        for question in _published(pending):
            if finder.can_yield(question.source, (wanted,)):
                yield _of_format(question.answer(deadline), wanted)


def _of_format(answer: SourceAnswer, wanted: str) -> SourceAnswer:
    """The answer without candidates of another format."""
    matching = tuple(candidate for candidate in answer.candidates if candidate.format == wanted)
    if len(matching) == len(answer.candidates):
        return answer
    where, detail = (matching[0].where, "") if matching else (str(answer.where), f"no key of the format {wanted}")
    return replace(answer, candidates=matching, where=where, detail=detail)


def _of_other_formats(
    pending: PendingLookup, deadline: float, now: datetime, ports: Ports, formats: tuple[str, ...]
) -> Iterator[SourceFinding]:
    """This address's keys in formats that are not wanted: an administrator's file, or a usable key in DNS.  That is no
    absence."""
    for question in _published(pending) if formats else ():
        answer = question.answer(deadline)
        others = dict.fromkeys(candidate.format.value for candidate in answer.candidates)
        is_unknown = answer.status in _UNPROVEN or answer.unclear is not None
        if is_unknown and not finder.can_yield(question.source, formats):
            yield _judge_once(answer, pending, now, ports, ())[0]  # nobody knows whether a key exists
            continue
        if not others or others.keys() & set(formats):
            continue
        where, text = answer.where or question.source, f"{' and '.join(others)}, and {' or '.join(formats)} is wanted"
        is_there = question.source in OUTSIDE_DNS
        if not is_there:
            is_there = _judge_once(answer, pending, now, ports, _others(answer, pending, deadline))[1] is not None
        if is_there:
            reason = Reason("other_format", f"{where} has the format {text}")
            yield _finding(answer, KeyVerdict.UNUSABLE_KEY, reason)


def _precedence(finding: SourceFinding) -> tuple[int, bool]:
    """Which of two sources without a key explains the result: the one with something to report."""
    return _PRECEDENCE.index(finding.verdict), finding.reason.code == "no_key"


def no_address(recipient: str) -> KeyLookup:
    """The look-up of a recipient that is no address: nobody here can tell whom the MTA delivers to."""
    reason = Reason("not_an_address", f"{recipient} is not an address of the form local@domain")
    nobody = EmailAddress("", "", recipient)
    return KeyLookup(nobody, KeyVerdict.UNCLEAR, reason, None, "", None)


def _looked_up(
    pending: PendingLookup,
    deciding: SourceFinding,
    key: X509Key | PGPKey | None,
    findings: list[SourceFinding],
    engine: str = "",
) -> KeyLookup:
    result = (deciding.verdict, deciding.reason, key, deciding.source, deciding.status, tuple(findings), engine)
    return KeyLookup(pending.address, *result, untrusted=pending.untrusted)


def _judge_once(
    answer: SourceAnswer, pending: PendingLookup, now: datetime, ports: Ports, others: Sequence[bytes]
) -> _Judged:
    """The judgement of the same answer within the last minute, whatever it was, unless its key has ended since.
    Without this, a message to a hundred recipients would be judged a hundred times.

    Only if the directory adds nothing; another trust store or other revocation lists need a new judgement.
    """
    if ports.judgements is None or others or not answer.candidates:
        return _judge(answer, pending, now, ports, others)
    question = (pending.address, pending.prefer, _evidence(answer), ports.raw_trust_store, ports.raw_crls)
    known = ports.judgements.recall(question)
    if known is not None and known.at <= now < known.until:
        finding, ttl_s = known.finding, answer.dns.ttl_s if answer.dns else 0
        if finding.ttl_s != ttl_s:
            finding = _finding(answer, finding.verdict, finding.reason, finding.assessments)
        return finding, known.key
    finding, key = _judge(answer, pending, now, ports, others)
    ports.judgements.remember(question, Judgement(finding, key, now, _holds_until(finding, key, now)), _weight(answer))
    return finding, key


def _evidence(answer: SourceAnswer) -> tuple[object, ...]:
    """What a judgement rests on, besides the question: the records, or the octets of the files."""
    dns = answer.dns
    if dns is None:
        return answer.source, answer.where, answer.candidates
    return answer.source, answer.local_part, dns.owner, dns.status, dns.raw_rdata, dns.malformed, dns.proven_by


def _weight(answer: SourceAnswer) -> int:
    """The octets that a judgement takes in memory, including the answer itself."""
    raw = answer.dns.raw_rdata if answer.dns else [candidate.raw for candidate in answer.candidates]
    return _A_JUDGEMENT + _OF_A_RECORD * len(raw) + _OF_AN_OCTET * sum(map(len, raw))


def _holds_until(finding: SourceFinding, key: X509Key | PGPKey | None, judged_at: datetime) -> datetime:
    keys = (key, *(assessment.key for assessment in finding.assessments))
    ends = (key.expires_at for key in keys if key is not None and key.expires_at is not None)
    return min((judged_at + _JUDGED_FOR, *ends))


def _judge(
    answer: SourceAnswer, pending: PendingLookup, now: datetime, ports: Ports, others: Sequence[bytes]
) -> _Judged:
    if answer.status in _UNPROVEN:
        verdict = _UNPROVEN[answer.status]
        return _finding(answer, verdict, _unproven(answer, answer.status.value)), None
    if answer.unclear is not None:
        return _finding(answer, KeyVerdict.UNCLEAR, answer.unclear), None
    assessments = _assess_all(answer, pending, now, ports, others) if answer.candidates else ()
    if answer.status is DNSSECStatus.INSECURE:
        return _insecure(answer, assessments), None
    asked = pending.prefer, pending.address
    while (best := choice.taken(assessments, answer, *asked)) and (fault := _refusal(best, ports)):
        assessments = tuple(_refused(a, fault) if a.key == best.key else a for a in assessments)
    if best is not None:
        reason = Reason("usable", choice.in_words(best, assessments, answer, pending.prefer))
        return _finding(answer, KeyVerdict.USABLE, reason, assessments), best.key
    return _without_key(answer, assessments), None


def _unproven(answer: SourceAnswer, status: str) -> Reason:
    """Why nobody can tell, and whose fault that is: ours, if our own folder or resolver could not be asked."""
    detail = answer.detail or status
    if answer.is_unreachable and answer.source == "wkd":
        return Reason("web_unreachable", detail)
    if answer.is_unreachable and answer.source == "ldap":
        return Reason("ldap_unreachable", detail)
    if answer.is_unreachable and answer.source == learned.SOURCE:
        return Reason("learned_keys", detail)
    if answer.is_unreachable:
        return Reason("key_folder", detail)
    if answer.dns is not None and answer.dns.is_ours:
        return Reason("resolver_down", detail)
    return Reason(status, detail)


_trials: Memory[str, tuple[Reason | None]] = Memory(entries=2000, octets=1 << 20)


def _refusal(chosen: Assessment, ports: Ports) -> Reason | None:
    """Why the encrypter cannot encrypt to a key that passed the gate.  Found here, it affects this recipient only;
    found later, everybody who shares the message."""
    key = chosen.key
    if not isinstance(key, X509Key):
        return ports.openpgp.fault(key) if key else None
    known = _trials.recall(key.fingerprint)
    if known is None:
        known = (cms.fault(key),)
        _trials.remember(key.fingerprint, known, 400)
    return known[0]


def _refused(assessment: Assessment, fault: Reason) -> Assessment:
    return replace(assessment, key=None, reasons=(fault,))


def _insecure(answer: SourceAnswer, assessments: tuple[Assessment, ...]) -> SourceFinding:
    """An unsigned zone proves nothing: its keys must not be used (RFC 7929 section 5, RFC 8162 section 7)."""
    if not any(a.meant_for_encryption for a in assessments) and not answer.malformed:
        return _finding(answer, KeyVerdict.NO_KEY, _absence(answer, assessments), assessments)
    reason = Reason("insecure", "a key is published, but its zone is not signed, so nothing proves whose it is")
    stripped = tuple(
        replace(a, key=None, reasons=(*((reason,) if a.key else ()), *(r for r in a.reasons if not a.key)))
        for a in assessments
    )
    return _finding(answer, KeyVerdict.INSECURE, reason, stripped)


def _without_key(answer: SourceAnswer, assessments: tuple[Assessment, ...]) -> SourceFinding:
    meant = [a for a in assessments if a.meant_for_encryption]
    if meant:
        first = meant[0].reasons[0]
        text = "; ".join(dict.fromkeys(reason.text for a in meant for reason in a.reasons))
        if passing := next((a for a in meant if x509.TEMPORARY.issuperset(r.code for r in a.reasons)), None):
            return _finding(answer, KeyVerdict.UNREACHABLE, Reason(passing.reasons[0].code, text), assessments)
        if unjudged := next((r for a in meant for r in a.reasons if r.code == "too_many_candidates"), None):
            return _finding(answer, KeyVerdict.UNCLEAR, unjudged, assessments)
        return _finding(answer, KeyVerdict.UNUSABLE_KEY, Reason(first.code, text), assessments)
    if answer.source in OUTSIDE_DNS and assessments:
        # The administrator put it there for this address: whatever it is, it is not absence.
        text = "; ".join(dict.fromkeys(reason.text for a in assessments for reason in a.reasons))
        return _finding(answer, KeyVerdict.UNUSABLE_KEY, Reason(assessments[0].reasons[0].code, text), assessments)
    if answer.malformed:
        reason = Reason("malformed", f"{answer.malformed} record(s) could not be read")
        return _finding(answer, KeyVerdict.UNUSABLE_KEY, reason, assessments)
    return _finding(answer, KeyVerdict.NO_KEY, _absence(answer, assessments), assessments)


def _absence(answer: SourceAnswer, assessments: tuple[Assessment, ...]) -> Reason:
    if assessments:
        texts = "; ".join(reason.text for a in assessments for reason in a.reasons)
        return Reason("not_for_encryption", f"what is published is not meant for encryption: {texts}")
    return Reason("no_key", answer.detail or "nothing is published")


def _finding(
    answer: SourceAnswer, verdict: KeyVerdict, reason: Reason, assessments: tuple[Assessment, ...] = ()
) -> SourceFinding:
    ttl_s, proven_by = (answer.dns.ttl_s, answer.dns.proven_by) if answer.dns is not None else (0, "")
    return SourceFinding(
        answer.source, answer.where, verdict, answer.status, ttl_s, reason, assessments, proven_by=proven_by
    )


def _assess_all(
    answer: SourceAnswer, pending: PendingLookup, now: datetime, ports: Ports, others: Sequence[bytes]
) -> tuple[Assessment, ...]:
    """Every candidate in order.  Those of one format are judged together, since SMIMEA records refer to each other, and
    several OPENPGPKEY records may hold parts of one key."""
    from_dns = answer.source not in OUTSIDE_DNS
    # Without a key under its tag, an address uses the mailbox's own key, which names the mailbox.
    address = replace(pending.address, local_part=answer.local_part) if answer.local_part else pending.address
    trusted = _trust_store(ports.raw_trust_store, ports.raw_crls)
    smime = [c for c in answer.candidates if c.format is Format.SMIME]
    openpgp = [c for c in answer.candidates if c.format is Format.OPENPGP]
    judged = {
        Format.SMIME: iter(x509.assess_all(smime, address if from_dns else None, now, trusted, others)),
        Format.OPENPGP: iter(pgp.assess_all(openpgp, address, now, pgp.Terms(from_dns, pending.prefer))),
    }
    assessments = whose.without_issuers([next(judged[c.format]) for c in answer.candidates])
    # The file's name is the administrator's word, unless a key in it says whose it is.
    return assessments if from_dns else whose.without_others(assessments, address)


def _others(answer: SourceAnswer, pending: PendingLookup, deadline: float) -> tuple[bytes, ...]:
    """The directory's certificates, if it is among the sources and records name certificates that they do not hold."""
    if not any(x509.names_another(candidate) for candidate in answer.candidates):
        return ()
    folders = (question.answer(deadline) for question in pending.questions if question.source == "directory")
    return tuple(c.raw for folder in folders for c in folder.candidates if c.format is Format.SMIME)


@lru_cache(maxsize=4)
def _trust_store(raw: bytes, raw_crls: bytes) -> x509.TrustStore | None:
    return x509.load_trust_store(raw, raw_crls) if raw or raw_crls else None
