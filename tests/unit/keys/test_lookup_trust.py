"""What a key must rest on: a source that is not trusted is as good as none, and the result says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smilla import decide
from smilla.address import EmailAddress, parse
from smilla.answer import describe
from smilla.config import Config, Rule
from smilla.config.options import SOURCES, TRUST, KeysOptions
from smilla.keys import lookup
from smilla.keys.discovery.wkd import Fetched
from smilla.keys.questions import MOST, MessageQuestions
from smilla.model import RESTS_ON, KeyLookup, KeyVerdict, SourceAnswer
from smilla.ports import Ports
from tests.vectors.memory import NOW, TableResolver, TableWeb, make_ports, make_session, raw_key

PIA = "pia@example.org"
ALL = ("smimea", "openpgpkey", "directory", "wkd")
KEY = Fetched(200, "application/octet-stream", raw_key("pia.pgp"))


def everywhere() -> Ports:
    """The key is in DNS, in the folder and on the web."""
    resolver = TableResolver().publish(PIA, "openpgpkey", "secure", raw_key("pia.pgp"))
    web = TableWeb(resolver).serve("openpgpkey.example.org", KEY)
    return make_ports(resolver, {f"{PIA}.pgp": raw_key("pia.pgp")}, web=web)


def look_up(ports: Ports, keys: KeysOptions, trust: tuple[str, ...] = ()) -> KeyLookup:
    pending = lookup.begin(parse(PIA), ports, Config(keys=keys), trust=trust)
    return lookup.finish(pending, pending.asked_at + 5, NOW, ports)


def test_every_source_rests_on_a_word_of_trust() -> None:
    assert {RESTS_ON[source] for source in SOURCES} == set(TRUST)


def test_a_source_that_is_named_is_trusted_unless_trust_says_otherwise() -> None:
    for source in ALL[1:]:
        found = look_up(everywhere(), KeysOptions(sources=(source,)))
        assert (found.verdict, found.source, found.untrusted) == (KeyVerdict.USABLE, source, ())


@pytest.mark.parametrize(("word", "source"), [("dnssec", "openpgpkey"), ("directory", "directory"), ("web", "wkd")])
def test_only_sources_that_rest_on_a_trusted_word_are_asked(word: str, source: str) -> None:
    by_default = look_up(everywhere(), KeysOptions(sources=ALL, trust=(word,)))
    by_rule = look_up(everywhere(), KeysOptions(sources=ALL, trust=TRUST), (word,))
    for found in (by_default, by_rule):
        assert (found.verdict, found.source) == (KeyVerdict.USABLE, source)
        assert all(RESTS_ON[finding.source] == word for finding in found.findings)
        assert found.untrusted == tuple(name for name in ALL if RESTS_ON[name] != word)


def test_a_rule_may_trust_more_than_the_default() -> None:
    keys = KeysOptions(sources=("openpgpkey", "wkd"), trust=("dnssec",))
    ports = make_ports(web=TableWeb(TableResolver()).serve("example.org", KEY))
    assert look_up(ports, keys).verdict is KeyVerdict.NO_KEY
    assert look_up(ports, keys, ("dnssec", "web")).source == "wkd"


def test_without_a_trusted_source_nobody_can_tell() -> None:
    found = look_up(everywhere(), KeysOptions(sources=("wkd",), trust=("dnssec",)))
    assert (found.verdict, found.reason.code, found.untrusted) == (KeyVerdict.UNCLEAR, "no_source", ("wkd",))


def test_what_is_not_proven_by_dnssec_says_so() -> None:
    proofs = {
        source: look_up(everywhere(), KeysOptions(sources=(source,))).proof for source in ("openpgpkey", *ALL[2:])
    }
    assert proofs == {"openpgpkey": "secure", "directory": "", "wkd": "web"}


def test_the_story_of_a_look_up_says_what_its_key_rests_on_and_who_was_not_asked() -> None:
    found = look_up(everywhere(), KeysOptions(sources=ALL, trust=("web",)))
    document = describe.lookup_as_json(found)
    assert (document["dnssec"], document["findings"][0]["dnssec"]) == ("web", "web")
    assert document["untrusted"] == ["smimea", "openpgpkey", "directory"]
    words = "\n".join(describe.lookup_in_words(found))
    assert "by the certificate of a web server, not by DNSSEC" in words
    assert "smimea: not asked, since trust does not name dnssec" in words


def test_a_web_server_that_is_down_is_not_blamed_on_dnssec() -> None:
    web = TableWeb(TableResolver()).serve("openpgpkey.example.org", None)
    found = look_up(make_ports(web=web), KeysOptions(sources=("wkd",)))
    assert (found.verdict, found.proof) == (KeyVerdict.UNREACHABLE, "unreachable")
    words = "\n".join(describe.lookup_in_words(found))
    assert "not answered; unknown for now" in words
    assert "DNSSEC" not in words


def test_recipients_under_rules_with_different_trust_have_look_ups_of_their_own() -> None:
    ports = make_ports(web=TableWeb(TableResolver()).serve("example.org", KEY))
    config = Config(
        keys=KeysOptions(sources=("openpgpkey", "wkd")),
        rule=(Rule(recipient=PIA, trust=("dnssec",), also_to=("quinn@example.org",)),),
    )
    session = make_session(b"To: x\r\n\r\nx\r\n", ())
    for mailbox in (PIA, "quinn@example.org"):
        decide.begin_lookup(session, session.recipient(f"<{mailbox}>"), ports, config)
    assert [(str(address), trust) for address, _, trust, _ in session.lookups] == [
        (PIA, ("dnssec",)),
        ("quinn@example.org", ("dnssec",)),
        ("quinn@example.org", ()),
    ]
    untrusted = [pending.untrusted for pending in session.lookups.values()]
    assert untrusted == [("wkd",), ("wkd",), ()]


class _Silent:
    """A source whose servers never answer."""

    def __init__(self) -> None:
        self.asked = 0

    def begin(self, address: EmailAddress) -> _Silent:
        self.asked += 1
        return self

    def done(self) -> bool:
        return False

    def result(self, deadline: float) -> SourceAnswer:
        raise AssertionError


def test_one_message_has_so_many_questions_to_the_web_under_way() -> None:
    silent = _Silent()
    ports = replace(make_ports(), network={"wkd": silent})
    questions, config = MessageQuestions(), Config(keys=KeysOptions(sources=("wkd",)))
    pending = [lookup.begin(parse(f"a@{n}.test"), ports, config, questions) for n in range(MOST + 1)]
    assert silent.asked == MOST
    found = lookup.finish(pending[-1], 0.0, NOW, ports)
    assert (found.verdict, found.reason.code) == (KeyVerdict.UNREACHABLE, "web_unreachable")
