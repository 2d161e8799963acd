"""smilla config check --probe beside Postfix's own programs: the files of contrib/postfix, and each line taken away."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import free_port
from tests.lab.programs import REPOSITORY, find_program, program_environment
from tests.live.examples import unseen

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live
EXAMPLES = REPOSITORY / "contrib/postfix"


@dataclass
class Lines:
    """Postfix's files with the lines of the examples, for one test to change; ``base`` are those of the laboratory."""

    base: Path
    folder: Path
    settings: str = ""
    mixed: str = "stage"

    def __post_init__(self) -> None:
        shutil.copytree(self.base, self.folder)
        self.main = (EXAMPLES / "main.cf.example").read_text()
        self.master = "cleanup unix n - n - 0 cleanup\n" + (EXAMPLES / "master.cf.example").read_text()
        # The lines that mixed = "stage" has besides.
        self.master = self.master.replace("#   -o receive_override", "    -o receive_override")
        self.master = self.master.replace("#   -o content_filter=\n", "    -o content_filter=\n")
        for table in EXAMPLES.glob("smilla_*"):
            shutil.copy(table, self.folder)

    def check(self) -> tuple[list[str], list[str], str]:
        """Errors, warnings and what is in order, about Postfix."""
        done = self.run("--probe")
        assert re.search(r"(?m)^(\w+: )?postfix: ", done.stdout + done.stderr), done.stderr
        errors, warnings = (
            re.findall(rf"^{kind}: postfix: (.*)", done.stderr, re.MULTILINE) for kind in ("error", "warning")
        )
        return errors, warnings, done.stdout

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """smilla config check."""
        queue = self.base.parent / "queue"
        here = f"regexp:{self.folder}/"
        for name, text in (("main.cf", (self.base / "main.cf").read_text() + self.main), ("master.cf", self.master)):
            (self.folder / name).write_text(text.replace("regexp:/etc/postfix/", here))
        config = self.folder / "smilla.toml"
        config.write_text(
            f'{self.settings}[policy]\nmixed = "{self.mixed}"\n[milter]\nsocket = "unix:{queue}/smilla/smilla.sock"\n'
            f'[stage]\nsocket = "unix:{queue}/smilla/stage.sock"\nkeys = "{self.folder}/seal"\n'
            f'[reinject]\nspool = "{self.folder}/spool"\n[keys]\nsources = ["directory"]\ndirectory = "/"\n'
        )
        program = find_program("postconf")
        environment = program_environment(program)
        environment["PATH"] = f"{program.parent}:{environment.get('PATH', '')}"
        argv = [sys.executable, "-m", "smilla", "config", "check", *options, "--config", str(config)]
        argv += ["--postfix-config", str(self.folder)]
        return subprocess.run(argv, capture_output=True, check=False, env=environment, text=True)


@pytest.fixture(scope="module")
def base(folder: Path) -> Iterator[Path]:
    """A main.cf that Postfix's programs take, in a folder that other files can lie beside."""
    place = Path(tempfile.mkdtemp(prefix="lines-", dir=folder))
    place.chmod(0o755)
    (place / "postfix").mkdir()
    try:
        with Postfix(place / "postfix", free_port(), [Listener()]):
            pass
        yield place
    finally:
        shutil.rmtree(place)


@pytest.fixture
def lines(base: Path) -> Lines:
    return Lines(base / "postfix/etc", Path(tempfile.mkdtemp(dir=base)) / "etc")


def test_nothing_is_amiss_in_the_examples(lines: Lines) -> None:
    errors, warnings, out = lines.check()
    assert (errors, warnings) == ([], [])
    assert "postfix: has the lines for the stage" in out


def test_a_table_behind_proxymap_counts_though_proxymap_does_not_run(lines: Lines) -> None:
    lines.main, count = re.subn("(milter_header_checks = )(?=regexp:)", r"\1proxy:", lines.main)
    assert count
    assert lines.check()[:2] == ([], [])


_NO_MARK = "nothing sends a sealed message"
_SPECIAL = r"{ smtpd_milters={ unix:\1, default_action=accept } }"
CHANGES = {
    "no milter_header_checks": ("main", "milter_header_checks = .*", "", f"submission: {_NO_MARK}"),
    "a table without it": ("main", "(milter_header_checks = .*)smilla_stage", r"\1smilla_refuse", _NO_MARK),
    "FILTER for strangers": ("main", "(\nheader_checks = .*)smilla_refuse", r"\1smilla_stage", "so a stranger's"),
    "accept": ("main", "(milter_default_action =) tempfail", r"\1 accept", "mail passes in plaintext"),
    "accept for one milter": ("master", r"smtpd_milters=unix:(\S+)", _SPECIAL, "mail passes in plaintext"),
    "pickup has no cleanup": ("master", "    -o cleanup_service_name=.*\n", "", "pickup: after postsuper -r"),
    "that cleanup has no table": ("master", "    -o header_checks=.*\n", "", "pickup: after postsuper -r"),
    "nested": ("master", "(-o nested_header_checks=)\n", r"\1$header_checks\n", "attached would be taken"),
    "no such transport": ("master", "smilla    unix", "smilly    unix", "there is no such service of LMTP"),
    "no XFORWARD": ("master", "    -o lmtp_send_xforward_command=yes\n", "", "smilla: the stage would not know"),
    "no listener": ("master", "127.0.0.1:10025 ", "127.0.0.1:10026 ", r"master.cf has no listener at 127.0.0.1:10025"),
    "the filter again": ("master", "(-o smtpd_milters=)\n", r"\1unix:smilla/smilla.sock\n", "10025: the copies would"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_line_that_is_missing_is_an_error_with_the_line_that_mends_it(lines: Lines, name: str) -> None:
    file, pattern, other, told = CHANGES[name]
    changed, count = re.subn(pattern, other, getattr(lines, file))
    assert count
    setattr(lines, file, changed)
    errors, _, out = lines.check()
    assert any(re.search(told, error) for error in errors), errors
    assert all(";" in error for error in errors)
    assert not any("/etc/postfix" in error for error in errors)
    assert "has the lines for the stage" not in out


_ATTACHED = "cleanup: REJECT also meets a message with a sealed one attached"
_PARTS = "smilla: a message for more than 50 recipients comes to the stage in parts, each encrypted anew"
WARNINGS = {
    "nested": (
        "main",
        "\nnested_header_checks =",
        "",
        _ATTACHED,
    ),
    "mime": ("main", "\nmime_header_checks =", "", _ATTACHED),
    "limit": ("main", "\nsmilla_destination_recipient_limit = 1000", "", f"{_PARTS}; smilla_destination_recip"),
    "xforward": (
        "master",
        "    -o smtpd_authorized_xforward_hosts=.*\n",
        "",
        "127.0.0.1:10025: smilla may not",
    ),
    "refuse": ("main", "\nheader_checks = .*", "\nsmtpd_milters =", "smtp: takes mail with a forged mark"),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_each_line_that_is_better_there_is_a_warning_with_the_line(lines: Lines, name: str) -> None:
    file, pattern, other, told = WARNINGS[name]
    lines.master += "smtp inet n - y - - smtpd\n" if name == "refuse" else ""
    changed, count = re.subn(pattern, other, getattr(lines, file))
    assert count
    setattr(lines, file, changed)
    errors, (warning,), _ = lines.check()
    assert errors == []
    assert warning.startswith(told)
    assert "; " in warning


def test_a_recipient_limit_that_somebody_chose_is_left_alone(lines: Lines) -> None:
    lines.main = lines.main.replace("recipient_limit = 1000", "recipient_limit = 20")
    assert lines.check()[:2] == ([], [])


@pytest.mark.parametrize("name", ["header_checks", "body_checks", "mime_header_checks"])
def test_redirect_where_it_ends_all_filtering_is_warned_of(lines: Lines, name: str) -> None:
    (lines.folder / "moving").write_text("# REDIRECT is a comment here\n/^X-Spam: yes/ REDIRECT boss@there.test\n")
    (lines.folder / "harmless").write_text("# no REDIRECT\n/^X-Spam: yes/ HOLD\n")
    lines.main += f"\n{name} = regexp:/etc/postfix/harmless regexp:/etc/postfix/moving\n"
    warned = [warning for warning in lines.check()[1] if "REDIRECT" in warning]
    assert warned
    assert all("moving has REDIRECT" in warning for warning in warned)


def test_a_stage_that_listens_elsewhere_is_an_error(lines: Lines) -> None:
    table = lines.folder / "smilla_stage"
    table.write_text(table.read_text().replace("smilla/stage.sock", "smilla/other.sock"))
    errors, _, _ = lines.check()
    assert [error.split(":")[0] for error in errors] == ["FILTER smilla"]
    assert errors[0].endswith("; write smilla:unix:smilla/stage.sock")


def test_a_whole_path_is_one_within_the_chroot(lines: Lines) -> None:
    for name in ("smilla_stage", "smilla_requeue"):
        table = lines.folder / name
        table.write_text(table.read_text().replace("unix:smilla/stage.sock", "unix:/smilla/stage.sock"))
    lines.master = lines.master.replace("unix:smilla/smilla.sock", "unix:/smilla/smilla.sock")
    assert lines.check()[:2] == ([], [])
    lines.master = re.sub(r"(smilla    unix +- +- +)y", r"\1n", lines.master)
    (error,) = lines.check()[0]
    assert error.startswith("FILTER smilla:unix:/smilla/stage.sock: smilla's [stage] socket is ")


def test_a_content_filter_that_is_skipped_is_a_warning(lines: Lines) -> None:
    lines.master = lines.master.replace("ORIGINATING\n", "ORIGINATING\n    -o content_filter=scan:[127.0.0.1]:10030\n")
    errors, warnings, _ = lines.check()
    assert errors == []
    (told,) = warnings
    assert told.endswith("10025, -o content_filter=scan:[127.0.0.1]:10030")
    before, _, after = lines.master.rpartition("    -o content_filter=\n")
    lines.master = f"{before}    -o content_filter=scan:[127.0.0.1]:10030\n{after}"
    assert lines.check()[:2] == ([], [])


def test_main_cfs_content_filter_is_named_for_sealed_mail_and_for_that_of_sendmail_1(lines: Lines) -> None:
    lines.main += "\ncontent_filter = scan:[127.0.0.1]:10030\n"
    errors, warnings, _ = lines.check()
    assert errors == []
    sealed, sendmail = sorted(warnings, reverse=True)
    assert sealed.startswith("submission: what is sealed skips content_filter = scan:[127.0.0.1]:10030")
    assert sealed.endswith("; on 127.0.0.1:10025, -o content_filter=scan:[127.0.0.1]:10030")
    assert sendmail.startswith("pickup: what pickup sends to 127.0.0.1:10024 skips content_filter = scan:")
    assert sendmail.endswith("; on 127.0.0.1:10024, -o content_filter=scan:[127.0.0.1]:10030")
    lines.master = lines.master.replace("    -o content_filter=\n", "    -o content_filter=scan:[127.0.0.1]:10030\n")
    assert lines.check()[:2] == ([], [])


def test_aliases_at_work_twice_and_listeners_that_take_forged_marks_are_warnings(lines: Lines) -> None:
    lines.master = re.sub("    -o receive_override_options=.*\n", "", lines.master) + "smtp inet n - y - - smtpd\n"
    lines.main = re.sub("\nheader_checks = .*", "", lines.main)
    lines.master = lines.master.replace("-o smtpd_milters=\n", "-o smtpd_milters=\n    -o header_checks=\n")
    lines.main += "\nsmtpd_milters =\n"
    _, warnings, _ = lines.check()
    assert any(told.startswith("127.0.0.1:10025: aliases") for told in warnings)
    assert any(told.startswith("smtp: takes mail with a forged mark") for told in warnings)


def test_an_archive_by_always_bcc_is_named_where_it_would_get_nothing(lines: Lines) -> None:
    lines.main += "\nalways_bcc = archive@r.test\n"
    (told,) = lines.check()[1]
    assert "always_bcc adds the seal does not name" in told
    lines.master = lines.master.replace("=no_address_mappings,", "=")
    assert lines.check()[:2] == ([], [])


SCANNED = ("-o smtpd_milters=unix:smilla/smilla.sock\n", "-o smtpd_milters=inet:[::1]:8891,unix:smilla/smilla.sock\n")
GUARD = "    -o smtpd_data_restrictions=$smilla_unseen\n"


def guarded(lines: Lines) -> None:
    """The lines against what a milter before smilla quarantines."""
    lines.main += "".join(
        f"{name} = {value}\n" for name, value in unseen().items() if name != "smtpd_data_restrictions"
    )
    lines.master = lines.master.replace(*SCANNED, 1).replace("#   -o smtpd_data_restrictions=$smilla_unseen\n", GUARD)
    lines.master += "smtp unix - - y - - smtp\nlmtp unix - - y - - lmtp\n"
    assert GUARD in lines.master


def test_a_milter_before_smilla_is_a_warning_where_what_it_quarantines_could_leave(lines: Lines) -> None:
    guarded(lines)
    assert lines.check()[:2] == ([], [])
    lines.master = lines.master.replace(GUARD, "")
    errors, (told,), _ = lines.check()
    assert errors == []
    assert told.startswith("submission: smilla never sees what inet:[::1]:8891 quarantines")
    assert "-o smtpd_data_restrictions=check_client_access static:{PREPEND X-Smilla: pending SECRET}" in told


UNSEEN = {
    "no look": ("(?m)^smtp_header_checks = .*", ""),
    "another secret": (r"pending \$smilla_secret/", "pending x/"),
    "one before it": ("(smtp_header_checks = )pipe", r"\1static:x, pipe"),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_unseen_mail_that_would_leave_is_an_error(lines: Lines, name: str) -> None:
    guarded(lines)
    lines.main, count = re.subn(*UNSEEN[name], lines.main)
    assert count
    assert "smtp: sends what smilla never saw" in "".join(lines.check()[0])


def test_other_lines_against_unseen_mail_that_are_wrong_are_named(lines: Lines) -> None:
    guarded(lines)
    lines.main = re.sub("(?m)^lmtp_header_checks = .*", "smtpd_data_restrictions = $smilla_unseen", lines.main)
    lines.master = lines.master.replace("    -o smtp_header_checks=\n", "").replace(
        GUARD, GUARD.replace("=", "=permit,")
    )
    lines.master += "10026 inet n - y - - smtpd -o smtpd_milters=\n"
    errors, warnings, _ = lines.check()
    assert [error.split(":")[0] for error in errors] == ["10026"]
    assert "takes the field of unseen mail off nothing" in errors[0]
    told = "\n".join(warnings)
    for text in ("lmtp: sends what smilla", "smilla-in: postsuper -r cannot bring", "submission: smilla never sees"):
        assert text in told


def test_observing_with_the_lines_against_unseen_mail_is_an_error(lines: Lines) -> None:
    guarded(lines)
    lines.settings = "observe = true\n"
    (error,) = lines.check()[0]
    assert error.startswith("submission: smilla takes the field of unseen mail off nothing")


def test_a_filter_that_no_listener_has_is_an_error_unless_it_observes(lines: Lines) -> None:
    lines.master = lines.master.replace("unix:smilla/smilla.sock", "")
    lines.main = lines.main.replace("unix:smilla/smilla.sock", "")
    (error,) = [told for told in lines.check()[0] if "no listener has the filter" in told]
    assert error.endswith("; smtpd_milters = unix:smilla/smilla.sock")  # as it is called in the chroot, too
    shutil.rmtree(lines.folder)
    observing = Lines(lines.base, lines.folder, "observe = true\n")
    observing.master, observing.main = lines.master, lines.main
    assert any("no listener has the filter" in told for told in observing.check()[1])


def behind_haproxy(lines: Lines) -> None:
    for name in ("main", "master"):
        setattr(lines, name, getattr(lines, name).replace("unix:smilla/smilla.sock", "unix:haproxy/milter.sock"))
    # The one that signs is no way to the filter.
    lines.master = lines.master.replace("-o smtpd_milters=\n", "-o smtpd_milters=inet:127.0.0.1:8892\n")


@pytest.mark.parametrize("milters", ["unix:smilla/smila.sock", "unix:smilla/smila.sock, unix:smilla/smilla.sock"])
def test_a_slip_in_the_name_of_the_socket_is_an_error_alone_and_beside_it(lines: Lines, milters: str) -> None:
    lines.main = lines.main.replace("unix:smilla/smilla.sock", milters)
    lines.master = lines.master.replace("unix:smilla/smilla.sock", milters.replace(" ", ""))
    told = " ".join(lines.check()[0])
    expected = (
        "asks unix:smilla/smila.sock as well, where nobody listens" if "," in milters else "no listener has the filter"
    )
    assert expected in told
    assert lines.run("--postfix").returncode == 1


def test_a_filter_behind_haproxy_is_not_followed_and_no_fault(lines: Lines) -> None:
    behind_haproxy(lines)
    errors, (told,), _ = lines.check()
    assert errors == []
    assert "may be reached through something else at unix:haproxy/milter.sock, which could not be followed" in told
    assert lines.run("--postfix").returncode == 0


def test_what_could_not_be_followed_needs_the_lines_for_the_stage_and_tempfail_all_the_same(lines: Lines) -> None:
    behind_haproxy(lines)
    lines.main = re.sub("milter_header_checks = .*", "", lines.main).replace("= tempfail", "= accept")
    told = lines.check()[0]
    assert any("submission: nothing sends a sealed message to the stage" in error for error in told)
    assert any("submission: while the filter is away, mail passes in plaintext" in error for error in told)
    assert not any(error.startswith("127.0.0.1:10025") for error in told)


def test_where_postfix_has_none_of_the_lines_one_hint_says_how_to_begin(lines: Lines) -> None:
    """As right after the package was installed."""
    main, lines.main = lines.main, ""
    lines.master = "cleanup unix n - n - 0 cleanup\npickup unix n - n 60 1 pickup\nsmtp inet n - n - - smtpd\n"
    done = lines.run("--postfix")
    assert (done.returncode, done.stdout) == (1, f"{lines.folder}/smilla.toml: the file has no fault\n")
    assert done.stderr == "hint: postfix: Postfix does not ask smilla yet; smilla init --apply\n"
    kept = json.loads((lines.folder / "seal/postfix.json").read_text())["instances"]
    assert list(kept.values()) == [["postfix: Postfix does not ask smilla yet; smilla init --apply"]]
    for begun in ("smtpd_milters = unix:smilla/smilla.sock\n", main.replace("smtpd_milters", "x_milters")):
        lines.main = begun
        assert "error: postfix: " in lines.run("--postfix").stderr


@pytest.mark.parametrize("name", ["smilla_stage", "smilla_refuse", "smilla_requeue"])
def test_a_table_whose_file_is_not_there_is_an_error(lines: Lines, name: str) -> None:
    (lines.folder / name).unlink()
    errors = lines.check()[0]
    assert errors
    assert all(f"there is no file {lines.folder / name}, so Postfix defers all mail" in told for told in errors)
    assert lines.run("--postfix").returncode == 1


def test_lines_that_cannot_be_looked_at_are_a_warning(lines: Lines) -> None:
    table = f"unheard_of:{lines.folder}/smilla_stage"
    lines.main = re.sub("milter_header_checks = .*", f"milter_header_checks = {table}", lines.main)
    _, warnings, _ = lines.check()
    assert any("could not be looked at" in told for told in warnings), warnings


def test_what_is_done_to_a_message_whose_copies_have_left_is_named_for_each_table(lines: Lines) -> None:
    lines.mixed = "reinject"
    assert lines.run().stderr.count("[policy] mixed = reinject") == 1
    (lines.folder / "access").write_text("bob@s.test HOLD for a look\neve@s.test REDIRECT boss@s.test\n")
    lines.main += (
        "\nsmtpd_sender_restrictions = permit_sasl_authenticated, check_sender_access texthash:$places/access"
        f"\nplaces = {lines.folder}"
        "\nbody_checks = regexp:{{/x/ FILTER a:b}}\nsmtpd_client_restrictions = check_client_access ldap:x\n"
    )
    told = lines.run().stderr
    assert f"smtpd_sender_restrictions: texthash:{lines.folder}/access has HOLD and REDIRECT; it does so" in told
    assert "body_checks: regexp:{{/x/ FILTER a:b}} has FILTER; it does so" in told
    assert "smtpd_client_restrictions: ldap:x could not be read" in told


def test_the_filter_is_told_which_size_postfix_takes(lines: Lines) -> None:
    def kept() -> int:
        lines.run("--postfix")
        return int(*json.loads((lines.folder / "seal/postfix.json").read_text())["limits"].values())

    assert kept() == 104_857_600  # of the laboratory
    lines.main += "\nmessage_size_limit = 20000000\n"
    assert kept() == 20_000_000
    lines.master = re.sub(r"(?m)^(127\.0\.0\.1:10025 inet .*\n)", r"\1    -o message_size_limit=5000\n", lines.master)
    assert kept() == 0
