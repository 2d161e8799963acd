"""What the commands that mail something take for it."""

from __future__ import annotations

import argparse

import pytest

from smilla.cli import expiring_notices, mailing, watch_mail

SHARED = ["--from", "a@b.example", "--smtp", "127.0.0.1:25", "--repeat", "3", "--state", "FILE"]


def _parsers() -> dict[str, argparse.ArgumentParser]:
    found = {name: argparse.ArgumentParser() for name in ("expiring", "watch")}
    expiring_notices.add_notice_arguments(found["expiring"])
    watch_mail.add_mail_arguments(found["watch"])
    return found


@pytest.mark.parametrize("name", ["expiring", "watch"])
def test_the_way_of_a_mail_is_chosen_alike_everywhere(name: str) -> None:
    options = _parsers()[name].parse_args(SHARED)
    assert (options.sender, options.smtp, options.repeat, options.state) == ("a@b.example", "127.0.0.1:25", 3, "FILE")


@pytest.mark.parametrize(("name", "days", "state"), [("expiring", 14, "expiring.json"), ("watch", 7, "watch.json")])
def test_each_command_has_its_own_interval_and_file_and_its_help_names_them(name: str, days: int, state: str) -> None:
    parser = _parsers()[name]
    assert parser.parse_args([]).repeat == days
    text = " ".join(parser.format_help().split())
    assert f"again ({days})" in text
    assert f"({state} in [reinject] spool)" in text


def test_days_are_a_number() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    mailing.add_arguments(parser, sender="needed", days=1, state="x.json")
    with pytest.raises(argparse.ArgumentError, match="--repeat"):
        parser.parse_args(["--repeat", "soon"])
