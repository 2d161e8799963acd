"""``smilla lookup`` as a person runs it: exit code, text and JSON, for one case of each kind and validator."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.lab.programs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.live.dnssec.bench import Bench

pytestmark = pytest.mark.live

KINDS = [
    ("alice@nsec.test", 0, "secure", "usable"),
    ("nobody@nsec3.test", 1, "secure", "no_key"),
    ("alice@open.test", 1, "insecure", "insecure"),
    ("expired@keys.test", 1, "secure", "unusable_key"),
    ("alice@wild-replay.test", 75, "bogus", "bogus"),
    ("alice@dead.test", 75, "unreachable", "unreachable"),
]


def _lookup(folder: Path, bench: Bench, way: str, address: str, *options: str) -> subprocess.CompletedProcess[str]:
    server = bench.lab.plain_resolver if way == "validate" else bench.lab.resolver
    config = folder / "smilla.toml"
    config.write_text(
        f'[dns]\ndnssec = "{way}"\nnameservers = ["{server}"]\n'
        f'trust_anchor = "{bench.lab.trust_anchor}"\nprobe = "test."\n'
    )
    command = [sys.executable, "-m", "smilla", "lookup", "--config", str(config), *options, address]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("way", ["resolver", "validate"])
@pytest.mark.parametrize("kind", KINDS, ids=[kind[0] for kind in KINDS])
def test_exit_code_and_json_say_the_same(
    tmp_path: Path, bench: Bench, way: str, kind: tuple[str, int, str, str]
) -> None:
    address, code, status, verdict = kind
    done = _lookup(tmp_path, bench, way, address, "--json")
    assert (done.returncode, done.stderr) == (code, "")
    found = json.loads(done.stdout)
    assert (found["address"], found["dnssec"], found["verdict"]) == (address, status, verdict)
    assert (found["key"] is not None) == (code == 0)


def test_text_names_owner_status_and_verdict(tmp_path: Path, bench: Bench) -> None:
    done = _lookup(tmp_path, bench, "validate", "alice@wild-replay.test")
    assert done.returncode == 75
    assert "._smimecert.wild-replay.test." in done.stdout
    assert "DNSSEC bogus" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("  verdict: bogus")
