"""What the status page says of a snapshot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from smilla.metrics.attention import Cause, findings
from smilla.metrics.snapshot import Count, DomainCount, Journal, Reloads, Resolver, Slot, Stage, Workers
from smilla.metrics.totals import Facts, Totals
from smilla.web import page
from tests.unit.metrics.test_attention import FAULTS, WELL
from tests.unit.web.snapshots import snapshot


def _tiles(**changes: Any) -> dict[str, page.Tile]:
    return {tile.name: tile for tile in page.facts(snapshot(**changes), domains=False)["tiles"]}


def test_share_is_of_what_went_on() -> None:
    assert _tiles()["encrypted, last hour"].figure == "75 %"
    assert _tiles(minutes=())["encrypted, last hour"].figure == "none"


def test_all_well_has_no_alarm() -> None:
    assert list(page.alarms(snapshot())) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resolver": Resolver(2, 0)}, "No resolver proves"),
        ({"minutes": (Slot(0, (Count("deferred", "resolver_down", 2),)),)}, "No resolver answered for 2 recipients"),
        ({"stage": Stage(used=True, problem="main.cf lacks a line")}, "main.cf lacks a line"),
        ({"journal": Journal(problem="disk I/O error")}, "disk I/O error"),
        ({"reloads": Reloads(1, 1, last_failed=True)}, "reload failed"),
        ({"workers": Workers(2, 1, 1)}, "Some workers do not run"),
    ],
)
def test_each_trouble_is_an_alarm_with_a_command(changes: dict[str, Any], words: str) -> None:
    [(text, command)] = page.alarms(snapshot(**changes))
    assert words in text
    assert command.startswith(("smilla ", "journalctl "))


@pytest.mark.parametrize(("change", "word", "cause"), FAULTS)
def test_what_needs_attention_in_smilla_status_is_an_alarm_or_a_red_tile_here(
    change: dict[str, Any], word: str, cause: Cause
) -> None:
    found = replace(WELL, **change)
    red = [tile.name for tile in page.facts(found, domains=False)["tiles"] if tile.state == "bad"]
    told = [(text, command) for text, command in page.alarms(found)]
    if cause is Cause.KEYS:
        assert (red, told) == (["keys about to end"], [])
    else:
        assert [command for _, command in told] == [each.mend for each in findings(found)]
        assert len(red) == (0 if cause is Cause.RELOAD else 1), word


def test_all_well_has_no_red_tile_though_some_mail_was_not_delivered_and_a_copy_is_owed() -> None:
    states = {tile.name: tile.state for tile in page.facts(WELL, domains=False)["tiles"]}
    assert "bad" not in states.values()
    assert states["copies owed"] == "quiet"


def test_a_reason_from_elsewhere_is_shown_as_it_is() -> None:
    [(text, _)] = page.alarms(snapshot(stage=Stage(used=True, problem="no {brace} and {0}.")))
    assert text == "Nothing is sealed: no {brace} and {0}."


def test_just_after_the_start_no_figure_says_that_all_went_out_as_plaintext() -> None:
    totals = Totals(lambda: 1000.0)
    totals.tell(Facts("1.0.0", 998.0, workers=Workers(2, 2)))
    shown = page.facts(totals.snapshot(), domains=True)
    shares = [tile for tile in shown["tiles"] if tile.name.startswith("encrypted")]
    assert [(tile.figure, tile.text, tile.state) for tile in shares] == [("none", "no mail went on", "quiet")] * 2
    assert (shown["is_fresh"], shown["has_mail"], shown["alarms"]) == (True, False, [])


def test_a_day_after_the_start_the_day_is_whole() -> None:
    assert not page.facts(snapshot(), domains=False)["is_fresh"]


def test_a_stage_that_is_not_used_raises_no_alarm() -> None:
    assert list(page.alarms(snapshot(stage=Stage(problem="no key")))) == []


def test_failures_have_words_and_advice() -> None:
    [(action, reason, words, hint, number)] = page.facts(snapshot(), domains=False)["failures"]
    assert (action, reason, number) == ("deferred", "unreachable", 1)
    assert "name servers" in words
    assert "resolver" in hint


def test_observing_shows_what_would_have_happened() -> None:
    assert _tiles(observing=True)["encrypted, last day"].figure == "75 %"


def test_domains_are_shown_only_where_asked_for() -> None:
    assert page.facts(snapshot(), domains=False)["domains"] is None
    assert page.facts(snapshot(), domains=True)["domains"] == [("example.net", "100 %", 6), ("<b>.example", "0 %", 2)]


def test_keys_about_to_end_are_told_by_day() -> None:
    assert page.facts(snapshot(), domains=False)["expiring"] == [("today", 1), ("in 12 days", 3)]
    assert _tiles()["keys about to end"].figure == "4"


def test_recipient_of_a_sealed_message_counts_once_for_the_domain() -> None:
    counts = [DomainCount("a.example", action, 3) for action in ("sealed", "encrypted", "already-sent")]
    waiting = DomainCount("b.example", "sealed", 1)
    shown = page.facts(snapshot(domains=(*counts, waiting)), domains=True)["domains"]
    assert shown == [("a.example", "100 %", 3)]
