"""Every policy, key, hop, rule, sender and alias against every other, from RCPT to the listeners: who must have a
verified hop gets one copy over it, or none; no copy is lost or comes twice; a word that must be protected stands
nowhere else.

What may become of a recipient is worked out here a second time, from the words of smilla.toml(5) alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from smilla.adapters.journal import SQLiteJournal
from smilla.adapters.seal_keys import SealKeys
from smilla.answer.reply import Verb
from smilla.config import Config, parse
from smilla.filter import Filter
from smilla.message import MemoryBody
from smilla.message import parse as parse_message
from smilla.model import Client, Hop, HopVerdict, Message, Reason
from smilla.ports import Ports
from smilla.server import stage
from smilla.server.handed import Handed
from smilla.session import Session, parsed_recipient
from tests.unit.listener import Listener
from tests.vectors.memory import NOW, StillClock, TableHops, TableResolver, make_ports, no_hop, smimea, verified_hop

CANARY = b"Kanarienvogel"
RECEIVED = b"Received: from c (c [192.0.2.1])\r\n\tby mx.example (Postfix) with ESMTPSA id 4XyZ;\r\n\t%s\r\n"
DATE = b"Fri, 20 Nov 2026 11:59:00 +0000"
KEYED = "hugh@example.org"
VERDICTS = {"none": "no_key", "weak": "insecure", "odd": "unusable_key", "forged": "bogus", "away": "unreachable"}
DOMAINS = ("good.test", "dry.test", "dark.test")
PREFIXES = ("", "open-", "vip-", "keen-", "never-")
OUTSIDE = [KEYED, *(f"{prefix}{state}@{domain}" for prefix in PREFIXES for state in VERDICTS for domain in DOMAINS)]
INSIDE = [f"{prefix}team{number}@inside.test" for prefix in ("", "open-", "never-") for number in (1, 2)]
WAY = {"good": verified_hop, "dry": no_hop}
RULES = """
[[rule]]
recipient = "open-*@*"
no_key = "plain"
insecure = "plain"
unusable_key = "plain"
[[rule]]
recipient = "vip-*@*"
encrypt = "require"
[[rule]]
recipient = "keen-*@*"
at_rcpt = true
no_key = "secure-hop"
[[rule]]
recipient = "never-*@*"
encrypt = "never"
"""


def state_of(address: str) -> str:
    return address.partition("@")[0].rpartition("-")[2]


@dataclass(frozen=True)
class Case:
    """A configuration and a message."""

    actions: dict[str, str]
    no_hop: str
    one_fails: str
    is_expanded: bool
    is_wished: bool
    sender: str
    to: tuple[str, ...]
    members: dict[str, tuple[str, ...]]  # of those that Postfix expands after the filter

    @cached_property
    def config(self) -> Config:
        policy = "".join(f'{name} = "{action}"\n' for name, action in self.actions.items())
        aliases = "expanded" if self.is_expanded else ""
        return parse(
            'mode = "outbound"\nlocal_domains = ["inside.test"]\ninternal_networks = ["127.0.0.0/8"]\n'
            f'[keys]\naliases = "{aliases}"\n[policy]\nmixed = "stage"\nno_hop = "{self.no_hop}"\n'
            f'one_fails = "{self.one_fails}"\nwish_subject = "[sealed]"\n{policy}{RULES}'
        )

    # --- what smilla.toml(5) says

    def forms(self, address: str, of: str = "") -> frozenset[str]:
        """In which forms this recipient may get the message: "smime", "bound", "plain"; by the rules for ``of``."""
        rule = next((prefix for prefix in PREFIXES[1:] if (of or address).startswith(prefix)), "")
        if rule == "never-":
            return frozenset() if self.is_wished else frozenset({"plain"})
        if address == KEYED:
            return frozenset({"smime"})
        if (of or address).endswith("@inside.test") and not self.is_wished:
            return frozenset({"plain"})
        verdict = VERDICTS.get(state_of(address), "no_key")
        action = {"open-": "plain", "keen-": "secure-hop" if verdict == "no_key" else ""}.get(rule) or self.actions.get(
            verdict, "defer"
        )
        if verdict in ("bogus", "unreachable"):
            action = "defer"
        if action in ("plain", "secure-hop") and (self.is_wished or rule == "vip-"):
            return frozenset()
        return frozenset({"plain": ["plain"], "hold": ["plain"], "secure-hop": ["bound"]}.get(action, []))

    def forms_of_member(self, member: str, alias: str) -> frozenset[str]:
        """The same for whom an alias led to."""
        given = self.forms(alias)
        if given == {"smime"}:
            return given
        if alias.endswith("@inside.test") and not self.is_wished:
            own = self.forms(member) if self.is_expanded and not alias.startswith("never-") else given
            return own | {"smime"}
        own = self.forms(member, of=alias)
        protected = own - {"plain"}
        return protected | {"smime", "bound"} if "bound" in given else protected or given


class Postfix:
    """A smtp.MTA: what its queue holds in the end."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        parsed = parse_message(head + b"\r\n\r\n").message.headers
        self.fields = [(h.raw_name.decode(), h.raw_value) for h in parsed]
        self.new_body: list[bytes] = []
        self.is_held = False
        self.deleted: set[str] = set()

    def replace_body(self, block: bytes) -> None:
        self.new_body.append(block)

    def change_header(self, name: str, number: int, value: str) -> None:
        raw = b" " + value.encode()
        if number <= 0:
            self.fields.insert(0 if number else len(self.fields), (name, raw))
            return
        place = [i for i, (one, _) in enumerate(self.fields) if one.lower() == name.lower()][number - 1]
        self.fields[place : place + 1] = [(name, raw)] if value else []

    def delete_recipient(self, raw: str) -> None:
        self.deleted.add(raw)

    def change_sender(self, sender: str, parameters: str) -> None:
        pass

    def quarantine(self, text: str) -> None:
        self.is_held = True

    def alive(self) -> None:
        pass

    @property
    def queued(self) -> bytes:
        head = b"".join(name.encode() + b":" + value + b"\r\n" for name, value in self.fields)
        return RECEIVED % DATE + head + b"\r\n" + (b"".join(self.new_body) or self.body)


@dataclass
class Lab:
    """A filter with its stage; ``ways`` says of each domain's hop whether it is good, dry or dark."""

    folder: Path
    case: Case
    mailer: Listener = field(default_factory=Listener)
    secure: Listener = field(default_factory=Listener)
    ways: dict[str, str] = field(default_factory=dict)
    problem: str = ""

    def __post_init__(self) -> None:
        self.keys = SealKeys(str(self.folder / "seal"))
        self.keys.prepare("", 90)
        self.resolver = TableResolver().publish(KEYED, "smimea", "secure", smimea("hugh.crt"))
        for address in OUTSIDE:
            state = state_of(address)
            if state in ("weak", "odd"):
                raw = smimea("hugh.crt") if state == "weak" else b"\x03\0\0 this is no certificate"
                self.resolver.publish(address, "smimea", "insecure" if state == "weak" else "secure", raw)
            elif state in ("forged", "away"):
                self.resolver.publish(address, "smimea", VERDICTS[state])

    def way(self, address: str) -> str:
        domain = address.rpartition("@")[2]
        return self.ways.get(domain, {"example.org": "dry"}.get(domain, domain.partition(".")[0]))

    @property
    def ports(self) -> Ports:
        hops = TableHops()
        for domain in (*DOMAINS, "example.org", "inside.test"):
            dark = Hop(domain, HopVerdict.BOGUS, Reason("tlsa_bogus", ""))
            hops.table[domain] = WAY.get(self.way(f"@{domain}"), lambda _, dark=dark: dark)(domain)
        ports = replace(make_ports(self.resolver), clock=StillClock(NOW), hops=hops, seal_keys=self.keys)
        journal = SQLiteJournal(str(self.folder / "spool"), 1000)
        ports = replace(ports, journal=journal, mailer=self.mailer, secure_mailer=self.secure)
        return replace(ports, stage_problem=lambda: self.problem)

    def received(self) -> tuple[Postfix, Verb, bool, list[str]]:
        """The message as it is after the filter: the answer, whether it is sealed, and who is still to be served."""
        subject = b"[sealed] hello" if self.case.is_wished else b"hello"
        raw = b"From: sam@sender.example\r\nSubject: %s\r\nMessage-ID: <1@s.example>\r\n\r\n%s\r\n" % (subject, CANARY)
        session = Session(Client("127.0.0.1", port=1025), f"<{self.case.sender}>", ("RET=FULL",))
        session.queue_id = "4XyZ"
        current, to = Filter(session, self.ports, self.case.config), []
        for address in self.case.to:
            away = current.recipient(f"<{address}>", alone=True)
            if away is None:
                to.append(address)
            else:
                session.withdraw(away.decision.recipient)
        postfix = Postfix(raw)
        if not to:
            return postfix, Verb.REJECT, False, []
        session.take(parse_message(raw).message)
        answer = current.end(postfix)
        assert CANARY.decode() not in answer.text
        assert not self.mailer.sent
        assert not self.secure.sent
        return postfix, answer.verb, answer.is_sealed, [name for name in to if f"<{name}>" not in postfix.deleted]

    def delivered(self, queued: bytes, owed: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Hands the sealed message to the stage for these, each with the original address; who is owed a copy still.
        Whoever is accepted has one."""
        recipients = [
            parsed_recipient(f"<{name}>", (f"ORCPT=rfc822;{origin}",), self.case.config.completion)
            for name, origin in owed
        ]
        head, _, body = queued.partition(b"\r\n\r\n")
        message = Message(parse_message(head + b"\r\n\r\n").message.headers, MemoryBody([body]))
        answers = stage.deliver(
            Handed(self.case.sender, tuple(recipients), message, "4XyZ"), self.ports, self.case.config
        )
        copies = {**self.mailer.copies(), **self.secure.copies()}
        left = []
        for pair, answer in zip(owed, answers, strict=True):
            assert CANARY.decode() not in answer.text
            assert answer.verb is not Verb.ACCEPT or pair[0] in copies, (pair, answer)
            if answer.verb is Verb.TEMPFAIL:
                left.append(pair)
        return left


def judged(lab: Lab, pairs: list[tuple[str, str]], at: dict[str, str]) -> None:
    """Has each recipient one copy at most, in a form that is theirs?  ``at`` says how the hop was when it was bound."""
    open_, bound = lab.mailer.copies(), lab.secure.copies()
    assert not open_.keys() & bound.keys()
    for submission, octets in lab.secure.sent:
        assert submission.needs_dsn
        assert "RET=HDRS" in submission.parameters
        assert b"\r\nX-Smilla-Hop: " in octets
    for name in {*open_, *bound}:
        form = "bound" if name in bound else "plain" if CANARY in open_[name] else "smime"
        origins = [origin for one, origin in pairs if one == name]
        if name in lab.case.to:  # a mailbox that was named itself is served as such, however it is reached
            origins.append(name)
        allowed = frozenset().union(
            *(lab.case.forms(name) if origin == name else lab.case.forms_of_member(name, origin) for origin in origins)
        )
        assert form in allowed, (name, origins, form, sorted(allowed))
        assert form != "bound" or at[name] == "good", name


# Most of what is drawn gets through the filter, and much of it is bound.
LIKELY = [f"{prefix}{state}@good.test" for prefix in ("", "open-", "keen-") for state in ("none", "weak", "odd")]
somebody = st.sampled_from([*LIKELY * 12, *INSIDE * 4, *[KEYED] * 12, *OUTSIDE])
some_action = st.sampled_from(["secure-hop"] * 6 + ["plain"] * 3 + ["refuse", "defer", "hold"])
cases = st.builds(
    Case,
    actions=st.fixed_dictionaries(dict.fromkeys(("no_key", "insecure", "unusable_key"), some_action)),
    no_hop=st.sampled_from(["refuse", "defer"]),
    one_fails=st.sampled_from(["whole", "bounce"]),
    is_expanded=st.booleans(),
    is_wished=st.sampled_from([False] * 4 + [True]),
    sender=st.sampled_from(["sam@sender.example", ""]),
    to=st.lists(somebody, min_size=1, max_size=5, unique=True).map(tuple),
    members=st.dictionaries(
        st.sampled_from([*INSIDE, *LIKELY]),
        st.lists(somebody, min_size=1, max_size=3, unique=True).map(tuple),
        max_size=6,
    ),
)


@given(case=cases, data=st.data())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=set(Phase) - {Phase.explain}
)
def test_whoever_must_have_a_verified_hop_gets_one_copy_over_it_or_none(case: Case, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        lab = Lab(Path(folder), case)
        postfix, verb, is_sealed, to = lab.received()
        if verb not in (Verb.ACCEPT, Verb.QUARANTINE):
            return
        if not is_sealed:
            is_plain = CANARY in postfix.queued
            assert all(("plain" if is_plain else "smime") in case.forms(name) for name in to)
            return
        assert CANARY not in postfix.queued
        pairs = [(member, name) for name in to for member in case.members.get(name, (name,))]
        run(lab, postfix.queued, pairs, data)


def run(lab: Lab, queued: bytes, pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    """Postfix hands the message over again and again, while listeners, hops and its connection come and go."""
    owed, at = list(pairs), dict[str, str]()
    for is_last in (False, False, True):
        if not is_last:
            lab.mailer.is_away = data.draw(st.booleans())
            lab.secure.is_away = data.draw(st.booleans())
            lab.problem = data.draw(st.sampled_from(["", "master.cf was changed"]))
            lab.ways = data.draw(st.dictionaries(st.sampled_from(DOMAINS), st.sampled_from(["good", "dry", "dark"])))
            refused: Any = st.dictionaries(
                st.sampled_from([name for name, _ in pairs]), st.sampled_from(["451 x", "550 x"])
            )
            lab.mailer.refuses = lab.secure.refuses = data.draw(refused)
        else:
            lab.mailer.is_away = lab.secure.is_away = False
            lab.problem, lab.mailer.refuses, lab.secure.refuses, lab.ways = "", {}, {}, {}
        before = lab.secure.copies().keys()
        left = lab.delivered(queued, owed) if owed else []
        owed = owed if not is_last and data.draw(st.booleans()) else left  # Postfix may not get the answers
        at.update({name: lab.way(name) for name in lab.secure.copies().keys() - before})
        judged(lab, pairs, at)


def test_member_of_an_alias_is_told_at_once_that_no_hop_to_their_own_domain_is_verified(tmp_path: Path) -> None:
    """The alias must have a verified hop; its member's own key would let the message go plain."""
    actions, alias = {"no_key": "secure-hop", "unusable_key": "plain"}, "none@good.test"
    case = Case(actions, "refuse", "whole", False, False, "sam@sender.example", (alias,), {})
    lab = Lab(tmp_path, case)
    postfix, verb, is_sealed, _ = lab.received()
    assert (verb, is_sealed) == (Verb.ACCEPT, True)
    members = [("odd@dry.test", alias), ("odd@dark.test", alias), ("odd@good.test", alias)]
    assert lab.delivered(postfix.queued, members) == [("odd@dark.test", alias)]
    assert set(lab.secure.copies()) == {"odd@good.test"}
    assert not lab.mailer.sent
