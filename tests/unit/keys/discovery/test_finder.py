"""Asking the sources: all at once, in order, and without an exception for what the world can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from smilla.address import parse
from smilla.keys.discovery import finder
from smilla.keys.discovery.owner import OPENPGPKEY, SMIMEA, owner_name
from smilla.keys.discovery.wkd import Fetched
from smilla.model import DNSSECStatus, Format, SMIMEACandidate, SourceAnswer
from smilla.ports import Ports
from tests.vectors.memory import MemoryFolder, TableResolver, TableWeb, make_ports, raw_key

ALL = ("smimea", "openpgpkey", "directory")


def with_folder(folder: MemoryFolder) -> Ports:
    return replace(make_ports(TableResolver()), folder=folder)


def answers(
    mailbox: str,
    resolver: TableResolver,
    files: Mapping[str, bytes | None] | None = None,
    sources: tuple[str, ...] = ALL,
    *,
    try_lowercase: bool = False,
) -> dict[str, SourceAnswer]:
    folder = MemoryFolder(files or {})
    questions = finder.begin(parse(mailbox), sources, resolver, with_folder(folder), finder.Spelling(try_lowercase))
    return {question.source: question.answer(7.0) for question in questions}


def test_every_source_is_asked_at_once_in_order() -> None:
    resolver = TableResolver()
    found = answers("Hugh@example.org", resolver, sources=("openpgpkey", "directory", "smimea"))
    assert list(found) == ["openpgpkey", "directory", "smimea"]
    assert resolver.asked == [
        (owner_name("Hugh", "example.org", OPENPGPKEY), OPENPGPKEY),
        (owner_name("Hugh", "example.org", SMIMEA), SMIMEA),
    ]
    assert set(resolver.deadlines) == {7.0}


def test_source_that_is_not_configured_is_not_asked() -> None:
    resolver = TableResolver()
    assert list(answers("hugh@example.org", resolver, sources=("directory",))) == ["directory"]
    assert resolver.asked == []


def test_records_become_candidates_in_an_order_of_their_own() -> None:
    resolver = TableResolver().publish("hugh@example.org", "smimea", "secure", b"\3\0\1zz", b"\1\1\2aa", b"\3\0\0cert")
    found = answers("hugh@example.org", resolver)["smimea"]
    fields = [
        (c.usage, c.selector, c.matching_type, c.raw, c.dnssec)
        for c in found.candidates
        if isinstance(c, SMIMEACandidate)
    ]
    secure = DNSSECStatus.SECURE
    assert fields == [(1, 1, 2, b"aa", secure), (3, 0, 0, b"cert", secure), (3, 0, 1, b"zz", secure)]
    resolver = TableResolver().publish("hugh@example.org", "openpgpkey", "insecure", b"b", b"a")
    assert [c.raw for c in answers("hugh@example.org", resolver)["openpgpkey"].candidates] == [b"a", b"b"]


@pytest.mark.parametrize("rdata", [b"", b"\3", b"\3\0"])
def test_record_that_is_too_short_is_a_candidate_and_no_absence(rdata: bytes) -> None:
    found = answers("hugh@example.org", TableResolver().publish("hugh@example.org", "smimea", "secure", rdata))[
        "smimea"
    ]
    assert [candidate.raw for candidate in found.candidates] == [b""]


@pytest.mark.parametrize("status", ["bogus", "indeterminate", "unreachable"])
def test_records_of_an_answer_that_proves_nothing_are_not_even_read(status: str) -> None:
    found = answers("hugh@example.org", TableResolver().publish("hugh@example.org", "smimea", status, b"\3\0\0cert"))
    assert (found["smimea"].status, found["smimea"].candidates) == (DNSSECStatus(status), ())


@pytest.mark.parametrize(
    "mailbox", ["hugh@[192.0.2.1]", "hugh@localhost", "hugh@a.onion", "hugh@" + "a" * 63 + ".b" * 80]
)
def test_domain_that_is_not_in_dns_is_not_asked(mailbox: str) -> None:
    resolver = TableResolver()
    found = answers(mailbox, resolver)
    assert resolver.asked == []
    assert (found["smimea"].status, found["smimea"].candidates) == (None, ())
    assert found["smimea"].unclear is not None


# --- try_lowercase -----------------------------------------------------------------------------------------


def test_lower_case_form_is_asked_only_where_it_is_wanted_and_differs() -> None:
    for mailbox, wanted, count in [
        ("Hugh@example.org", False, 1),
        ("Hugh@example.org", True, 2),
        ("hugh@example.org", True, 1),
    ]:
        resolver = TableResolver()
        answers(mailbox, resolver, sources=("smimea",), try_lowercase=wanted)
        assert len(resolver.asked) == count


def test_lower_case_form_serves_where_the_exact_one_is_proven_absent() -> None:
    resolver = TableResolver().publish("hugh@example.org", "smimea", "secure", b"\3\0\0lower")
    found = answers("Hugh@example.org", resolver, try_lowercase=True)["smimea"]
    assert [candidate.raw for candidate in found.candidates] == [b"lower"]
    assert found.where == owner_name("hugh", "example.org", SMIMEA)


def test_exact_form_comes_first() -> None:
    resolver = TableResolver().publish("hugh@example.org", "smimea", "secure", b"\3\0\0lower")
    resolver.publish("Hugh@example.org", "smimea", "secure", b"\3\0\0exact")
    found = answers("Hugh@example.org", resolver, try_lowercase=True)["smimea"]
    assert [candidate.raw for candidate in found.candidates] == [b"exact"]


@pytest.mark.parametrize("status", ["bogus", "indeterminate", "unreachable"])
def test_trouble_with_the_exact_form_is_not_hidden_by_the_lower_case_one(status: str) -> None:
    resolver = TableResolver().publish("hugh@example.org", "smimea", "secure", b"\3\0\0lower")
    resolver.publish("Hugh@example.org", "smimea", status)
    found = answers("Hugh@example.org", resolver, try_lowercase=True)["smimea"]
    assert (found.status, found.candidates) == (DNSSECStatus(status), ())


@pytest.mark.parametrize("status", ["bogus", "indeterminate", "unreachable"])
def test_trouble_with_the_lower_case_form_is_no_absence(status: str) -> None:
    resolver = TableResolver().publish("hugh@example.org", "smimea", status)
    assert answers("Hugh@example.org", resolver, try_lowercase=True)["smimea"].status is DNSSECStatus(status)


def test_malformed_record_at_the_exact_form_is_no_absence() -> None:
    resolver = TableResolver().publish("hugh@example.org", "smimea", "secure", b"\3\0\0lower")
    resolver.publish("Hugh@example.org", "smimea", "secure", malformed=1)
    found = answers("Hugh@example.org", resolver, try_lowercase=True)["smimea"]
    assert (found.candidates, found.malformed) == ((), 1)


# --- the directory -----------------------------------------------------------------------------------------


def from_folder(mailbox: str, files: Mapping[str, bytes | None]) -> SourceAnswer:
    return answers(mailbox, TableResolver(), files, ("directory",))["directory"]


def test_files_are_found_in_order_of_preference() -> None:
    names = [f"hugh@example.org{suffix}" for suffix in (".pgp", ".asc", ".pem", ".crt")]
    found = from_folder("hugh@EXAMPLE.org", dict.fromkeys(names, b"x"))
    assert [c.where for c in found.candidates] == [f"hugh@example.org{s}" for s in (".crt", ".pem", ".asc", ".pgp")]
    assert [c.format for c in found.candidates] == [Format.SMIME, Format.SMIME, Format.OPENPGP, Format.OPENPGP]
    assert found.status is None


def test_file_of_the_exact_name_hides_that_of_the_lower_case_one() -> None:
    files = {"Hugh@example.org.pgp": b"exact", "hugh@example.org.crt": b"lower"}
    for mailbox, raw in (("Hugh@example.org", b"exact"), ("HUGH@example.org", b"lower")):
        found = answers(mailbox, TableResolver(), files, ("directory",), try_lowercase=True)["directory"]
        assert [candidate.raw for candidate in found.candidates] == [raw]


@pytest.mark.parametrize(
    ("mailbox", "name"),
    [
        ("bob@home.test", "bob@Home.test.pem"),
        ("bob@HOME.test", "bob@home.test.CRT"),
        ("hugh@bücher.example", "hugh@xn--bcher-kva.example.der"),
        ("hugh@xn--bcher-kva.example", "hugh@Bücher.example.gpg"),
        ("Carol@home.test", "Carol@home.test.cer"),
        ('"john smith"@home.test', "john smith@home.test.asc"),
    ],
)
def test_file_is_found_however_its_domain_is_written(mailbox: str, name: str) -> None:
    assert [c.where for c in from_folder(mailbox, {name: b"x"}).candidates] == [name]


def test_file_whose_name_differs_in_case_is_no_absence_and_serves_where_that_is_said() -> None:
    for mailbox, name in (("carol@home.test", "Carol@home.test.crt"), ("Carol@home.test", "carol@home.test.crt")):
        found = from_folder(mailbox, {name: b"x"})
        assert (found.candidates, found.unclear and found.unclear.code) == ((), "case_differs")
        found = answers(mailbox, TableResolver(), {name: b"x"}, ("directory",), try_lowercase=True)["directory"]
        assert [c.where for c in found.candidates] == [name]


def test_tagged_address_has_the_key_of_its_mailbox_where_it_has_none_of_its_own() -> None:
    def found(mailbox: str, files: Mapping[str, bytes | None], subaddress: str = "+") -> list[str]:
        spelling = finder.Spelling(subaddress=subaddress)
        (question,) = finder.begin(
            parse(mailbox), ("directory",), TableResolver(), with_folder(MemoryFolder(files)), spelling
        )
        return [candidate.where for candidate in question.answer(7.0).candidates]

    files: dict[str, bytes | None] = {"alice@home.test.crt": b"x", "alice+a@home.test.crt": b"y"}
    assert found("alice+tag@home.test", files) == ["alice@home.test.crt"]
    assert found("alice+tag+more@home.test", files) == ["alice@home.test.crt"]
    assert found("alice+a@home.test", files) == ["alice+a@home.test.crt"]
    assert found("alice+tag@home.test", files, "") == []
    assert found("alice-tag@home.test", files, "-") == ["alice@home.test.crt"]
    assert found("+alice@home.test", files) == []


@pytest.mark.parametrize(("is_local", "asked"), [(True, 2), (False, 1)])
def test_dns_is_asked_without_the_tag_for_local_addresses_only(is_local: bool, asked: int) -> None:
    resolver = TableResolver().publish("alice@home.test", "smimea", "secure", b"\3\0\0x")
    spelling = finder.Spelling(subaddress="+", is_local=is_local)
    (question,) = finder.begin(
        parse("alice+tag@home.test"), ("smimea",), resolver, with_folder(MemoryFolder({})), spelling
    )
    assert (len(question.answer(7.0).candidates), len(resolver.asked)) == (asked - 1, asked)


def test_file_that_cannot_be_read_is_unreachable_and_no_absence() -> None:
    found = from_folder("hugh@example.org", {"hugh@example.org.crt": None})
    assert (found.status, found.candidates) == (DNSSECStatus.UNREACHABLE, ())


def test_folder_without_a_file_is_absence() -> None:
    found = from_folder("hugh@example.org", {})
    assert (found.status, found.candidates, found.detail) == (None, (), "no file for hugh@example.org")


@pytest.mark.parametrize("local", ["../hugh", "a/b", "..", ".hidden", "/etc/passwd", "a/../../b"])
def test_local_part_cannot_lead_out_of_the_folder(local: str) -> None:
    class Watched(MemoryFolder):
        def read(self, name: str) -> bytes | None:
            raise AssertionError(name)

    questions = finder.begin(
        parse(f'"{local}"@example.org'), ("directory",), TableResolver(), with_folder(Watched()), finder.Spelling()
    )
    assert questions[0].answer(0.0).candidates == ()


@pytest.mark.parametrize("mailbox", ["hugh@[192.0.2.1]", "hugh@localhost"])
def test_file_for_a_domain_that_the_mta_may_name_otherwise_serves_and_its_lack_proves_nothing(mailbox: str) -> None:
    assert [c.where for c in from_folder(mailbox, {f"{mailbox}.crt": b"x"}).candidates] == [f"{mailbox}.crt"]
    found = from_folder(mailbox, {"hugh@example.org.crt": b"x"})
    assert (found.candidates, found.unclear is not None) == ((), True)
    assert from_folder("hugh@example.org", {}).unclear is None


def test_single_label_of_ours_is_a_whole_name() -> None:
    for is_local, code in ((True, None), (False, "single_label")):
        spelling = finder.Spelling(is_local=is_local)
        questions = finder.begin(parse("hugh@mars"), ALL, TableResolver(), with_folder(MemoryFolder({})), spelling)
        assert {(a.unclear and a.unclear.code) for a in (q.answer(7.0) for q in questions)} == {code}


@pytest.mark.parametrize(
    ("status", "rdata", "malformed", "code"),
    [
        ("insecure", [], 0, "special_use"),
        ("insecure", [b"\3\0\0x"], 0, None),
        ("insecure", [], 1, None),
        ("secure", [], 0, None),
        ("bogus", [], 0, None),
    ],
)
def test_silence_about_a_private_name_is_unclear_unless_it_is_signed(
    status: str, rdata: list[bytes], malformed: int, code: str | None
) -> None:
    resolver = TableResolver().publish("hugh@mail.home.arpa", "smimea", status, *rdata, malformed=malformed)
    found = answers("hugh@mail.home.arpa", resolver, sources=("smimea",))["smimea"]
    assert (found.unclear and found.unclear.code) == code
    assert len(found.candidates) == len(rdata)


@pytest.mark.parametrize(
    ("source", "yields"), [("smimea", {"smime"}), ("openpgpkey", {"openpgp"}), ("directory", {"smime", "openpgp"})]
)
def test_source_is_known_to_have_keys_of_its_formats_alone(source: str, yields: set[str]) -> None:
    assert {form for form in ("smime", "openpgp") if finder.can_yield(source, (form,))} == yields
    assert finder.can_yield(source, ())
    assert finder.can_yield(source, ("smime", "openpgp"))


def test_answer_says_under_which_local_part_it_was_found() -> None:
    resolver = TableResolver().publish("hugh@example.org", "smimea", "secure", b"\3\0\0lower")
    assert answers("Hugh@example.org", resolver, try_lowercase=True)["smimea"].local_part == "hugh"
    resolver.publish("Hugh@example.org", "smimea", "secure", b"\3\0\0exact")
    assert answers("Hugh@example.org", resolver, try_lowercase=True)["smimea"].local_part == "Hugh"


WEB = {"pia": Fetched(200, "", raw_key("pia.pgp"))}


class PathWeb(TableWeb):
    """Has a key for some local parts only."""

    def _get(self, host: str, target: str, address: str) -> Fetched:
        local_part = target.partition("?l=")[2]
        self.asked.append(local_part)
        return WEB.get(local_part, Fetched(404))


@pytest.mark.parametrize(("is_local", "asked"), [(True, ["pia%2Btag", "pia"]), (False, ["pia%2Btag"])])
def test_the_web_is_asked_for_a_tagged_address_of_ours_without_its_tag_too(is_local: bool, asked: list[str]) -> None:
    web = PathWeb(TableResolver())
    web.serve("example.org", None)
    ports, spelling = make_ports(web=web), finder.Spelling(True, "+", is_local)
    (question,) = finder.begin(parse("pia+tag@example.org"), ("wkd",), ports.resolver, ports, spelling)
    found = question.answer(7.0)
    assert web.asked == asked
    assert (found.local_part, bool(found.candidates)) == (("pia", True) if is_local else ("pia+tag", False))


@pytest.mark.parametrize("trouble", [Fetched(500), Fetched(403), Fetched(200, "", raw_key("pgp-expired.pgp"))])
def test_the_web_has_the_last_word_on_a_tagged_address_unless_it_is_absent(
    trouble: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WEB, "pia%2Btag", trouble)
    web = PathWeb(TableResolver())
    web.serve("example.org", None)
    ports, spelling = make_ports(web=web), finder.Spelling(False, "+", True)
    (question,) = finder.begin(parse("pia+tag@example.org"), ("wkd",), ports.resolver, ports, spelling)
    assert question.answer(7.0).local_part == "pia+tag"


@pytest.mark.parametrize("mailbox", ["pia@[192.0.2.1]", "pia@example", "pia@x.onion"])
def test_the_web_is_not_asked_where_dns_is_not(mailbox: str) -> None:
    web = PathWeb(TableResolver())
    ports = make_ports(web=web)
    (question,) = finder.begin(parse(mailbox), ("wkd",), ports.resolver, ports, finder.Spelling())
    assert question.answer(7.0).unclear is not None
    assert web.asked == []
