"""The Web Key Directory: which host is asked, under which name, and what each answer means."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from smilla.address import parse
from smilla.errors import FetchError
from smilla.formats import key_file
from smilla.keys.discovery import wkd
from smilla.keys.discovery.wkd import Fetched
from smilla.model import DNSAnswer, DNSSECStatus, SourceAnswer
from tests.vectors.memory import TableResolver, TableWeb, raw_key

PIA = parse("pia@example.org")
ADVANCED, DIRECT = "openpgpkey.example.org", "example.org"
KEY = Fetched(200, "application/octet-stream", raw_key("pia.pgp"))
MOVED = (301, 302, 303, 307, 308)


def asked(mailbox: str = "pia@example.org", **hosts: Fetched | None) -> tuple[SourceAnswer, list[str]]:
    """``advanced``, ``direct`` and ``www`` are hosts."""
    names = {"advanced": ADVANCED, "direct": DIRECT, "www": "www.example.org"}
    web = TableWeb(TableResolver())
    for name, answer in hosts.items():
        web.serve(names[name], answer)
    return web.begin(parse(mailbox)).result(0.0), web.asked


def kind(answer: SourceAnswer) -> str:
    if answer.status is not None:
        return answer.status.value
    if answer.unclear is not None:
        return answer.unclear.code
    return "keys" if answer.candidates else "absent"


def test_the_name_is_that_of_the_drafts_example() -> None:
    assert wkd.hashed("Joe.Doe") == wkd.hashed("joe.doe") == "iy9q119eutrkn8s1mk4r39qejnbu3n5q"


def test_only_ascii_letters_are_lowered() -> None:
    assert wkd.hashed("ÖRN") == wkd.hashed("Örn")
    assert wkd.hashed("ÖRN") != wkd.hashed("örn")


def test_the_advanced_method_asks_below_the_domain_with_the_local_part_as_given() -> None:
    _, urls = asked("Joe.Doe@Example.ORG", advanced=Fetched(404))
    key = "iy9q119eutrkn8s1mk4r39qejnbu3n5q"
    assert urls == [f"https://{ADVANCED}/.well-known/openpgpkey/example.org/hu/{key}?l=Joe.Doe"]


def test_the_direct_method_asks_the_domain_itself() -> None:
    _, urls = asked("Joe.Doe@example.org", direct=Fetched(404))
    assert urls == ["https://example.org/.well-known/openpgpkey/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe"]


@pytest.mark.parametrize(
    ("mailbox", "escaped"),
    [('"a b/../?&#x"@example.org', "a%20b%2F..%2F%3F%26%23x"), ("ö+t@example.org", "%C3%B6%2Bt")],
)
def test_no_local_part_changes_the_path_or_the_query(mailbox: str, escaped: str) -> None:
    (url,) = asked(mailbox, direct=Fetched(404))[1]
    assert url.endswith(f"?l={escaped}")
    assert url.isascii()


def test_the_direct_method_is_not_used_where_the_advanced_host_exists() -> None:
    for answer in (None, Fetched(404), Fetched(500), Fetched(403)):
        found, urls = asked(advanced=answer, direct=KEY)
        assert kind(found) != "keys"
        assert all(url.startswith(f"https://{ADVANCED}/") for url in urls)


@pytest.mark.parametrize("status", ["bogus", "indeterminate", "unreachable"])
def test_the_direct_method_is_not_used_where_dns_does_not_prove_that_there_is_no_advanced_host(status: str) -> None:
    web = TableWeb(TableResolver()).serve(ADVANCED, KEY, status).serve(DIRECT, KEY)
    assert kind(web.begin(PIA).result(0.0)) == status
    assert web.asked == []


def test_one_type_of_address_is_enough_if_the_other_cannot_be_had() -> None:
    web = TableWeb(TableResolver()).serve(ADVANCED, KEY)
    web.resolver.table[f"{ADVANCED}.", 28] = DNSAnswer(ADVANCED, "AAAA", DNSSECStatus.UNREACHABLE)
    assert kind(web.begin(PIA).result(0.0)) == "keys"


def test_an_address_that_cannot_be_had_is_no_absence_of_the_host() -> None:
    web = TableWeb(TableResolver()).serve(DIRECT, KEY)
    web.resolver.table[f"{ADVANCED}.", 28] = DNSAnswer(ADVANCED, "AAAA", DNSSECStatus.UNREACHABLE)
    assert kind(web.begin(PIA).result(0.0)) == "unreachable"


@pytest.mark.parametrize("raw", [b"\1\2\3", b""])
def test_an_address_record_that_cannot_be_read_is_unclear(raw: bytes) -> None:
    web = TableWeb(TableResolver()).serve(DIRECT, KEY)
    web.resolver.table[f"{ADVANCED}.", 1] = DNSAnswer(ADVANCED, "A", DNSSECStatus.SECURE, (raw,))
    assert kind(web.begin(PIA).result(0.0)) == "web_unclear"


def test_address_records_of_which_none_can_be_read_are_no_absence() -> None:
    web = TableWeb(TableResolver()).serve(DIRECT, KEY)
    web.resolver.table[f"{ADVANCED}.", 1] = DNSAnswer(ADVANCED, "A", DNSSECStatus.SECURE, malformed=1)
    assert kind(web.begin(PIA).result(0.0)) == "web_unclear"


def test_a_domain_without_any_host_is_absent() -> None:
    found, urls = asked()
    assert (kind(found), urls) == ("absent", [])


def test_an_unsigned_answer_about_a_private_name_is_no_absence() -> None:
    web = TableWeb(TableResolver())
    for host in ("openpgpkey.corp.internal.", "corp.internal."):
        for rdtype in (1, 28):
            web.resolver.table[host, rdtype] = DNSAnswer(host, str(rdtype), DNSSECStatus.INSECURE)
    assert kind(web.begin(parse("pia@corp.internal")).result(0.0)) == "special_use"


@pytest.mark.parametrize(
    ("status", "means"),
    [
        *((status, "absent") for status in (404, 410)),
        *((status, "unreachable") for status in (408, 425, 429, 500, 502, 503, 504, 599)),
        *((status, "web_unclear") for status in (201, 204, 206, 300, 304, 400, 401, 403, 405, 418, 451)),
    ],
)
def test_each_status_has_one_meaning(status: int, means: str) -> None:
    assert kind(asked(advanced=Fetched(status, raw=KEY.raw))[0]) == means


def test_a_server_that_does_not_answer_is_unreachable_and_says_why() -> None:
    found, _ = asked(advanced=None)
    assert kind(found) == "unreachable"
    assert "Connection refused" in found.detail


def test_keys_become_candidates_one_each() -> None:
    found, _ = asked(advanced=Fetched(200, "", raw_key("pgp-expired.pgp") + raw_key("pia.pgp")))
    assert [c.raw for c in found.candidates] == [raw_key("pgp-expired.pgp"), raw_key("pia.pgp")]
    assert {(c.source, c.format.value, c.dnssec) for c in found.candidates} == {("wkd", "openpgp", None)}
    assert "?" not in found.where


def test_octets_that_are_no_key_go_to_the_gate_as_they_are() -> None:
    for raw in (b"", b"nothing", b"\x30\x03\x02\x01\x01"):
        found, _ = asked(advanced=Fetched(200, "application/octet-stream", raw))
        assert [c.raw for c in found.candidates] == [raw]


def test_more_keys_than_are_read_are_unclear() -> None:
    raw = b"\xc6\x01\x04" * (key_file.MOST + 1)
    assert kind(asked(advanced=Fetched(200, "", raw))[0]) == "too_many_candidates"


@pytest.mark.parametrize("media_type", ["text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml"])
def test_a_page_is_neither_a_key_nor_its_absence(media_type: str) -> None:
    assert kind(asked(advanced=Fetched(200, media_type, b"<html>"))[0]) == "web_unclear"


@pytest.mark.parametrize("status", MOVED)
def test_a_redirection_to_a_host_below_the_domain_is_followed(status: int) -> None:
    moved = Fetched(status, location="https://www.example.org/k?x=1")
    found, urls = asked(direct=moved, www=KEY)
    assert kind(found) == "keys"
    assert urls[1:] == ["https://www.example.org/k?x=1"]


def test_what_a_redirection_leads_to_counts() -> None:
    moved = Fetched(301, location="https://www.example.org/k")
    assert kind(asked(direct=moved, www=Fetched(404))[0]) == "absent"
    assert kind(asked(direct=moved, www=None)[0]) == "unreachable"
    assert kind(asked(direct=moved)[0]) == "web_unclear"


@pytest.mark.parametrize(
    "location",
    [
        "https://example.net/",
        "https://badexample.org/",
        "https://example.org.evil.test/",
        "http://www.example.org/",
        "//example.net/",
        "https://www.example.org:8443/",
        "https://me@www.example.org/",
        "https://www.example.org:x/",
        "https://[::1]/",
        "https://.example.org/",
        "https://www.example.org/\x7f",
        "ftp://example.org/",
        "",
    ],
)
def test_no_other_redirection_is_followed(location: str) -> None:
    web = TableWeb(TableResolver()).serve(DIRECT, Fetched(301, location=location))
    for host in ("www.example.org", "example.net", "badexample.org", "example.org.evil.test", "::1", ".example.org"):
        web.serve(host, KEY)
    assert kind(web.begin(PIA).result(0.0)) == "web_unclear"
    assert len(web.asked) == 1


def test_redirections_end() -> None:
    found, urls = asked(direct=Fetched(301, location="/again"))
    assert kind(found) == "web_unclear"
    assert len(urls) == 3


def test_further_addresses_are_tried_but_not_for_ever() -> None:
    tried = []

    def ask(owner: str, rdtypes: Sequence[int]) -> list[DNSAnswer]:
        raw = tuple(bytes([192, 0, 2, last]) for last in range(1, 6))
        return [DNSAnswer(owner, "A", DNSSECStatus.SECURE, raw if rdtype == 1 else ()) for rdtype in rdtypes]

    def get(host: str, target: str, address: str) -> Fetched:
        tried.append(address)
        if good and address == "192.0.2.2":
            return KEY
        raise FetchError("no", temporary=True)

    good = True
    assert kind(wkd.find(PIA, ask, get)) == "keys"
    good, tried = False, []
    assert kind(wkd.find(PIA, ask, get)) == "unreachable"
    assert tried == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
