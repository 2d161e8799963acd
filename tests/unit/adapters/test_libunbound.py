"""What libunbound's result is taken for, trust anchors, and turns.  No socket: results are made by hand."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.adapters import libunbound, libunbound_abi
from smilla.adapters.libunbound import ValidatingResolver
from smilla.errors import EngineMissing, SmillaError
from smilla.model import DNSAnswer, DNSSECStatus

if TYPE_CHECKING:
    from pathlib import Path

OWNER = "hash._smimecert.example.org."
KEY = "257 3 8 AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3"
DIGEST = "20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"


def result(*records: bytes, rcode: int = 0, **fields: object) -> libunbound_abi.Result:
    made = libunbound_abi.Result()
    data = (ctypes.c_void_p * (len(records) + 1))()
    sizes = (ctypes.c_int * (len(records) + 1))()
    kept = [ctypes.create_string_buffer(record, max(1, len(record))) for record in records]
    for number, buffer in enumerate(kept):
        data[number], sizes[number] = ctypes.addressof(buffer), len(records[number])
    made.data, made.len = data, sizes
    made.kept = kept
    made.rcode, made.havedata, made.nxdomain = rcode, bool(records), rcode == 3
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def read(made: libunbound_abi.Result, anchors: tuple[str, ...] = (".",)) -> DNSAnswer:
    return libunbound._read(OWNER, 53, made, anchors)


def test_secure_records_come_octet_for_octet_with_their_ttl() -> None:
    found = read(result(b"\3\0\0abc", b"", b"\0" * 30000, secure=1, ttl=60))
    records = (b"\3\0\0abc", b"", b"\0" * 30000)
    proof = "libunbound, from the trust anchor"
    assert found == DNSAnswer(OWNER, "SMIMEA", DNSSECStatus.SECURE, records, 0, 60, "", proof)


@pytest.mark.parametrize(("rcode", "word"), [(0, "NOERROR"), (3, "NXDOMAIN")])
def test_secure_absence_says_how(rcode: int, word: str) -> None:
    found = read(result(rcode=rcode, secure=1, ttl=5))
    assert (found.status, found.raw_rdata) == (DNSSECStatus.SECURE, ())
    assert (found.detail, found.is_denied) == (f"no SMIMEA record ({word})", word == "NXDOMAIN")


def test_bogus_goes_before_everything_and_says_why() -> None:
    found = read(result(b"record", secure=1, bogus=1, why_bogus=b"signature expired"))
    assert (found.status, found.raw_rdata, found.detail) == (DNSSECStatus.BOGUS, (), "signature expired")


def test_bogus_without_words_is_bogus() -> None:
    assert read(result(rcode=2, bogus=1)).status is DNSSECStatus.BOGUS


@pytest.mark.parametrize("rcode", [1, 2, 4, 5, 16])
def test_every_other_response_code_is_unreachable(rcode: int) -> None:
    found = read(result(b"record", rcode=rcode, secure=1))
    assert (found.status, found.raw_rdata) == (DNSSECStatus.UNREACHABLE, ())
    assert found.detail


def test_insecure_is_believed_under_an_anchor_only() -> None:
    assert read(result(b"record")).status is DNSSECStatus.INSECURE
    assert read(result(b"record"), ("org.",)).status is DNSSECStatus.INSECURE
    assert read(result(b"record"), ("example.org.",)).status is DNSSECStatus.INSECURE
    for anchors in (("test.",), ("ample.org.",), (OWNER.replace("hash", "other"),)):
        found = read(result(b"record"), anchors)
        assert (found.status, found.raw_rdata) == (DNSSECStatus.INDETERMINATE, ())


def test_insecure_behind_an_alias_is_believed_where_its_target_is_under_an_anchor() -> None:
    assert read(result(b"record", canonname=b"a.EXAMPLE.org"), ("org.",)).status is DNSSECStatus.INSECURE
    found = read(result(b"record", canonname=b"a.example.net"), ("org.",))
    assert (found.status, found.raw_rdata) == (DNSSECStatus.INDETERMINATE, ())
    assert "a.example.net" in found.detail


def test_secure_behind_an_alias_is_secure() -> None:
    assert read(result(b"record", secure=1, canonname=b"a.example.net"), ("org.",)).status is DNSSECStatus.SECURE


@given(
    st.fixed_dictionaries(
        {
            "rcode": st.integers(-1, 70000),
            "secure": st.booleans(),
            "bogus": st.booleans(),
            "canonname": st.binary(max_size=40),
            "why_bogus": st.binary(max_size=40),
            "ttl": st.integers(-500, 500),
        }
    )
)
def test_any_result_gives_an_answer_with_a_status(fields: dict[str, Any]) -> None:
    made = result(**fields)
    found = read(made, ("org.",))
    assert isinstance(found.status, DNSSECStatus)
    assert found.ttl_s >= 0


# --- trust anchors


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f". IN DS {DIGEST}\n", (".",)),
        (f".\t172800\tIN\tDNSKEY\t{KEY}\n", (".",)),
        (f". IN 172800 DNSKEY {KEY} ;{{id = 20326 (ksk), size = 2048b}}\n", (".",)),
        (f". 2d IN DS {DIGEST}\n", (".",)),
        (f"; a comment\n;;id: . 1\n\ntest. DS {DIGEST}\n", ("test.",)),
        (f"Test. in ds {DIGEST}\nexample.org IN DNSKEY {KEY}\n", ("test.", "example.org.")),
    ],
    ids=["DS", "DNSKEY", "class first", "TTL in units", "comments", "two anchors, any case"],
)
def test_anchor_names_are_read_from_a_zone_file(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    file = tmp_path / "anchor"
    file.write_text(text)
    assert libunbound._anchor_names(str(file)) == names


@pytest.mark.parametrize("text", ["", "; nothing\n", ". IN NS a.root-servers.net.\n", f";. IN DS {DIGEST}\n", "\xff\0"])
def test_file_without_an_anchor_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "anchor"
    file.write_text(text)
    with pytest.raises(SmillaError, match="holds no DNSKEY or DS record"):
        ValidatingResolver([], str(file), ".")


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SmillaError, match="missing"):
        ValidatingResolver([], str(tmp_path / "missing"), ".")


def test_library_that_is_not_there_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libunbound_abi, "_LIBRARY", "libunbound-missing.so.0")
    with pytest.raises(EngineMissing, match="apt-get install libunbound8"):
        libunbound_abi.load()
