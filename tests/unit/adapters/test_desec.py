"""Names relative to a zone, as deSEC's API has them; the rest is in tests/live/test_desec.py."""

from __future__ import annotations

import pytest

from smilla.adapters.desec import subname
from smilla.errors import PublishError


def test_subname_is_the_owner_without_its_zone() -> None:
    assert subname("example.org.", "ab._smimecert.example.org.") == "ab._smimecert"
    assert subname("Example.org.", "ab._smimecert.sub.example.ORG.") == "ab._smimecert.sub"


@pytest.mark.parametrize("zone", ["example.com.", "ple.org.", "ab._smimecert.example.org."])
def test_owner_outside_the_zone_is_refused(zone: str) -> None:
    with pytest.raises(PublishError, match="not in the zone"):
        subname(zone, "ab._smimecert.example.org.")
