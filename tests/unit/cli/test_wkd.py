"""smilla wkd: what is written, what is not, and that nothing is lost by mistake."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from smilla.keys.discovery.wkd import hashed
from tests.unit.cli.conftest import CommandLine, Done
from tests.unit.records.test_web_directory import key_of
from tests.vectors.memory import raw_key

PIA, QUINN = hashed("pia"), hashed("quinn")


class Directory:
    """A folder of keys and the folder that is written."""

    def __init__(self, commands: CommandLine) -> None:
        self._commands = commands
        self.keys, self.web = commands.folder / "keys", commands.folder / "web"
        self.keys.mkdir()

    def run(self, *options: str, domain: str = "example.org") -> Done:
        return self._commands.run("wkd", self.web, "--keys", self.keys, "--domain", domain, *options)

    def files(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.web)): p.read_bytes() for p in sorted(self.web.rglob("*")) if p.is_file()}


@pytest.fixture
def directory(commands: CommandLine) -> Directory:
    made = Directory(commands)
    (made.keys / "pia.pgp").write_bytes(raw_key("pia.pgp"))
    return made


def test_the_folder_has_each_key_under_its_name_and_a_policy(directory: Directory) -> None:
    done = directory.run()
    assert (done.code, done.err) == (0, "")
    files = directory.files()
    assert set(files) == {f"example.org/hu/{PIA}", "example.org/policy"}
    assert files["example.org/policy"] == b""
    assert done.out.decode().startswith("pia@example.org: written, key ")


def test_the_direct_method_has_no_folder_for_the_domain(directory: Directory) -> None:
    assert directory.run("--direct").code == 0
    assert set(directory.files()) == {f"hu/{PIA}", "policy"}


def test_a_web_server_may_read_everything_whatever_the_umask_is(directory: Directory) -> None:
    before = os.umask(0o077)
    try:
        assert directory.run().code == 0
    finally:
        os.umask(before)
    for path in (directory.web, *directory.web.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)


def test_what_is_up_to_date_is_not_written_again(directory: Directory) -> None:
    directory.run()
    path = directory.web / f"example.org/hu/{PIA}"
    before = path.stat()
    done = directory.run("--json")
    assert [key["changed"] for key in done.json["keys"]] == [False]
    assert path.stat().st_ino == before.st_ino


def test_a_policy_that_is_there_stays(directory: Directory) -> None:
    directory.run()
    (directory.web / "example.org/policy").write_text("protocol-version: 5\n")
    directory.run()
    assert directory.files()["example.org/policy"] == b"protocol-version: 5\n"


def test_a_key_that_was_not_given_stays_until_prune(directory: Directory) -> None:
    directory.run()
    for name in (QUINN, "index.html"):
        (directory.web / "example.org/hu" / name).write_bytes(b"x")
    done = directory.run()
    assert f"example.org/hu/{QUINN}: stays" in done.out.decode()
    assert "hint: --prune" in done.err
    done = directory.run("--prune", "--json")
    assert done.json["others"] == [{"file": f"example.org/hu/{QUINN}", "removed": True}]
    assert set(directory.files()) == {f"example.org/hu/{PIA}", "example.org/hu/index.html", "example.org/policy"}


def test_a_dry_run_changes_nothing(directory: Directory) -> None:
    done = directory.run("--dry-run")
    assert done.code == 0
    assert "pia@example.org: written" in done.out.decode()
    assert not directory.web.exists()
    directory.run()
    (directory.web / "example.org/hu" / QUINN).write_bytes(b"x")
    before = directory.files()
    assert directory.run("--dry-run", "--prune").code == 0
    assert directory.files() == before


@pytest.mark.parametrize("domain", ["example.net", "sub.example.org"])
def test_a_domain_without_a_key_changes_nothing_not_even_with_prune(directory: Directory, domain: str) -> None:
    directory.run()
    before = directory.files()
    done = directory.run("--prune", "--domain", domain)
    assert done.code == 2
    assert domain in done.err
    assert directory.files() == before


def test_a_key_that_nobody_could_use_is_not_written_and_the_exit_says_so(directory: Directory) -> None:
    (directory.keys / "old.asc").write_bytes(raw_key("pgp-expired.pgp"))
    (directory.keys / "pia.pgp").unlink()
    (directory.keys / "quinn.pgp").write_bytes(key_of("quinn@example.org"))
    done = directory.run()
    assert done.code == 1
    assert "pia@example.org: not published: " in done.out.decode()
    assert "expired" in done.out.decode()
    assert set(directory.files()) == {f"example.org/hu/{QUINN}", "example.org/policy"}


def test_a_revoked_key_is_written_so_that_senders_learn_of_it(directory: Directory) -> None:
    directory.run()
    (directory.keys / "pia.pgp").write_bytes(raw_key("pgp-revoked.pgp"))
    done = directory.run("--json")
    assert done.code == 0
    assert (done.json["keys"][0]["state"], done.json["keys"][0]["changed"]) == ("revoked", True)


@pytest.mark.parametrize(
    ("name", "octets"),
    [
        ("secret.asc", raw_key("pia.secret")),
        ("empty.pgp", b""),
        ("letter.gpg", b"hello"),
        ("crt.pgp", raw_key("hugh.crt")),
    ],
)
def test_a_file_that_cannot_be_published_stops_the_command(directory: Directory, name: str, octets: bytes) -> None:
    (directory.keys / name).write_bytes(octets)
    done = directory.run()
    assert done.code == 2
    assert name in done.err
    assert not directory.web.exists()


def test_a_key_for_nobody_of_the_domain_is_counted(directory: Directory) -> None:
    (directory.keys / "other.pgp").write_bytes(key_of("quinn@example.net"))
    done = directory.run()
    assert done.code == 0
    assert "name no address of example.org, and go nowhere: 1" in done.err


def test_other_files_of_a_folder_are_not_read(directory: Directory) -> None:
    for name in ("hugh@example.org.crt", "README", "pia.secret"):
        (directory.keys / name).write_bytes(raw_key("pia.secret"))
    assert directory.run().code == 0


def test_a_folder_that_cannot_be_written_is_named(directory: Directory) -> None:
    directory.web.write_text("a file")
    done = directory.run()
    assert done.code == 1
    assert str(directory.web) in done.err


@pytest.mark.parametrize("domain", ["..", "a/b", "", "[192.0.2.1]", "localhost", "single", "../../etc.x"])
def test_what_is_no_domain_makes_no_folder(directory: Directory, domain: str) -> None:
    assert directory.run(domain=domain).code == 2
    assert not directory.web.exists()


def test_the_direct_method_has_room_for_one_domain(directory: Directory) -> None:
    assert directory.run("--direct", "--domain", "example.net").code == 2


def test_a_domain_may_be_given_as_people_write_it(directory: Directory) -> None:
    (directory.keys / "idn.pgp").write_bytes(key_of("pia@bücher.example"))
    assert directory.run(domain="Bücher.example").code == 0
    assert f"xn--bcher-kva.example/hu/{PIA}" in directory.files()


def test_the_document_has_everything(directory: Directory) -> None:
    document = json.loads(directory.run("--json").out)
    (key,) = document["keys"]
    assert (key["address"], key["file"], key["state"]) == ("pia@example.org", f"example.org/hu/{PIA}", "published")
    assert len(key["fingerprint"]) == 40
    assert document["dry_run"] is False


def test_the_block_of_the_manual_is_the_file_in_contrib() -> None:
    root = Path(__file__).parents[3]
    page = (root / "man/smilla-wkd.8").read_text().partition("# nginx.conf\n")[2].partition(".Ed\n")[0]
    assert page.startswith("server {")
    assert (root / "contrib/nginx/openpgpkey.conf").read_text().endswith(page)
