"""Every OpenPGP construct in every reader.  ``make interop`` prints the table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.constructs import CONSTRUCTS, Construct
from tests.interop.matrix import EXPECTED, READERS, Matrix, Refusal, cells
from tests.interop.readers import ALL_OPENPGP, ALL_SMIME, Reader

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    made = Matrix("openpgp")
    yield made
    made.close()


@pytest.mark.parametrize(("construct", "reader"), cells("openpgp"), ids=lambda one: one.name)
def test_it_opens_octet_for_octet_where_it_ought_to(construct: Construct, reader: type[Reader], matrix: Matrix) -> None:
    matrix.judge(construct, reader)


@pytest.mark.parametrize("reader", READERS["openpgp"], ids=lambda one: one.name)
def test_it_does_not_open_with_a_strangers_key(reader: type[Reader], matrix: Matrix) -> None:
    matrix.judge_strangers_key(reader)


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda one: f"{one.constructs[0]} {one.readers[0]}")
def test_every_expected_no_names_constructs_and_readers_that_exist(expected: Refusal) -> None:
    readers = {"smime": ALL_SMIME, "openpgp": ALL_OPENPGP}
    known = [(construct.name, reader.name) for construct in CONSTRUCTS for reader in readers[construct.format]]
    for reader in expected.readers:
        assert any(expected.covers(name, other) for name, other in known if other == reader), reader
    assert len({construct.name for construct in CONSTRUCTS}) == len(CONSTRUCTS)
