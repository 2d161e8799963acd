"""Every S/MIME construct in every reader.  ``make interop`` prints the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from asn1crypto import algos, cms, core, x509

from tests.interop.constructs import SMIME, Construct
from tests.interop.matrix import READERS, Matrix, cells
from tests.interop.owners import owner
from tests.interop.readers import Reader
from tests.interop.readers.base import unwrapped

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    made = Matrix("smime")
    yield made
    made.close()


@pytest.mark.parametrize(("construct", "reader"), cells("smime"), ids=lambda one: one.name)
def test_it_opens_octet_for_octet_where_it_ought_to(construct: Construct, reader: type[Reader], matrix: Matrix) -> None:
    matrix.judge(construct, reader)


@pytest.mark.parametrize("reader", READERS["smime"], ids=lambda one: one.name)
def test_it_does_not_open_with_a_strangers_key(reader: type[Reader], matrix: Matrix) -> None:
    matrix.judge_strangers_key(reader)


class KEMRecipientInfo(core.Sequence):  # type: ignore[misc]
    """RFC 9629 section 3, which asn1crypto does not know."""

    _fields: ClassVar = [
        ("version", core.Integer),
        ("rid", cms.RecipientIdentifier),
        ("kem", algos.AlgorithmIdentifier),
        ("kemct", core.OctetString),
        ("kdf", algos.AlgorithmIdentifier),
        ("kek_length", core.Integer),
        ("ukm", core.OctetString, {"explicit": 0, "optional": True}),
        ("wrap", algos.AlgorithmIdentifier),
        ("encrypted_key", core.OctetString),
    ]


@pytest.mark.parametrize("construct", SMIME, ids=lambda one: one.name)
def test_asn1crypto_reads_the_structure_that_the_rfcs_say(construct: Construct, matrix: Matrix) -> None:
    """DER that encodes again to the same octets, one RecipientInfo a recipient, named by issuer and serial number
    (RFC 5652 section 6, RFC 5083 section 2)."""
    raw = unwrapped(next(iter(matrix.messages(construct)[0].values())))
    info = cms.ContentInfo.load(raw, strict=True)
    assert info.dump(force=True) == raw
    content = info["content"]
    authenticated = "GCM" in construct.name
    assert info["content_type"].native == ("authenticated_enveloped_data" if authenticated else "enveloped_data")
    kinds = {one.name for one in content["recipient_infos"]}
    version = "v3" if "ori" in kinds else "v2" if "kari" in kinds else "v0"
    assert content["version"].native == ("v0" if authenticated else version)
    named = {_rid(one) for one in content["recipient_infos"]}
    certificates = [x509.Certificate.load(owner("smime", name).published) for name in construct.to]
    assert named == {(one.issuer.dump(), one.serial_number) for one in certificates}
    assert len(content["recipient_infos"]) == len(construct.to)


def _rid(info: cms.RecipientInfo) -> tuple[bytes, int]:
    chosen = info.chosen
    if info.name == "ori":
        assert chosen["ori_type"].native == "1.2.840.113549.1.9.16.13.3"
        kem = KEMRecipientInfo.load(chosen["ori_value"].dump(), strict=True)
        assert kem.dump(force=True) == chosen["ori_value"].dump()
        assert kem["version"].native == 0
        rid = kem["rid"]
    else:
        rid = chosen["rid"] if info.name == "ktri" else chosen["recipient_encrypted_keys"][0]["rid"]
    assert rid.name == "issuer_and_serial_number"
    return rid.chosen["issuer"].dump(), rid.chosen["serial_number"].native
