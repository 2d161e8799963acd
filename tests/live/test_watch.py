"""What is published in real zones, against a folder: smilla watch and smilla expiring, each by its own command.

smilla watch -> unbound (validates) -> nsd (signed, unsigned and forged zones)
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.dns import DNSLab, Kind
from tests.lab.keys import make_smime_key
from tests.lab.programs import require_servers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live
_STATES = {
    "same@signed.test": "same",
    "missing@signed.test": "missing",
    "same@unsigned.test": "insecure",
    "same@broken.test": "bogus",
    "same@dead.test": "unreachable",
}


@pytest.fixture(scope="module")
def config() -> Iterator[Path]:
    """A folder with a certificate for each address, all but ``missing`` published."""
    require_servers("nsd", "unbound", "ldns-signzone")
    with tempfile.TemporaryDirectory(prefix="smilla-") as name:
        place = Path(name)
        keys = place / "keys"
        keys.mkdir()
        lab = DNSLab(place / "lab")
        kinds = {"signed": Kind.SECURE, "unsigned": Kind.INSECURE, "broken": Kind.WRONG_DS, "dead": Kind.DEAD}
        zones = {f"{one}.test": lab.zone(f"{one}.test", kind) for one, kind in kinds.items()}
        for address in _STATES:
            raw = make_smime_key(place, address).raw_certificate
            (keys / f"{address}.cer").write_bytes(raw)
            if not address.startswith("missing"):
                zones[address.partition("@")[2]].add_smimea(address, raw)
        with lab:
            path = place / "smilla.toml"
            path.write_text(f'[dns]\nnameservers = ["{lab.resolver}"]\nprobe = "test."\n[keys]\ndirectory = "{keys}"\n')
            yield path


def smilla(command: str, config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "smilla", command, "--config", str(config), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("address", _STATES)
def test_each_zone_has_its_state(config: Path, address: str) -> None:
    done = smilla("watch", config, "--days", "10", "--json", address)
    (found,) = json.loads(done.stdout)
    # unbound answers SERVFAIL both for a forged zone and for one that nobody serves.
    allowed = {"bogus", "unreachable"} if _STATES[address] in ("bogus", "unreachable") else {_STATES[address]}
    assert found["state"] in allowed, found
    assert done.returncode == {"same": 0, "unreachable": 75}.get(found["state"], 1), done.stderr


def test_key_that_is_published_ends_within_enough_days(config: Path) -> None:
    assert smilla("expiring", config, "--days", "0", "same@signed.test").returncode == 0
    done = smilla("expiring", config, "--days", "4000", "--json", "same@signed.test")
    (found,) = json.loads(done.stdout)
    assert (done.returncode, found["standing"], found["source"]) == (1, "ends", "smimea")
