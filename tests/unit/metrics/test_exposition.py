"""What a scraper reads, parsed by the library's own parsers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from smilla.metrics.catalogue import FAMILIES, HISTOGRAM, SECONDS
from smilla.metrics.exposition import exposition
from smilla.metrics.snapshot import Journal, Reloads, Stage, Workers
from smilla.metrics.totals import Facts, Sample, State, Totals

ACCEPT = "application/openmetrics-text; version=1.0.0"


def full() -> State:
    totals = Totals(lambda: 1000.0)
    totals.tell(Facts("1.2.3", 5.0, observing=True, workers=Workers(2, 1, 3), reloads=Reloads(4, 5, last_failed=True)))
    totals.sampled(Sample(Journal(1, 2, 3, 4.5), Stage(True, "", 2, 400.0)))
    timing = [1.0, 2.0, *[0.0] * (len(SECONDS) - 2), 4.0, 9.5]
    for kind, name, value in (
        ("counts", ["recipients", "encrypted", "smime", "smimea", "secure", "usable"], 7),
        ("counts", ["messages", "451"], 2),
        ("timings", ["message_seconds"], timing),
        ("gauges", "resolvers_asked", 2),
        ("gauges", "resolvers_proven", 0),
        ("keys", "a", 1000.0 + 2 * 86400 + 1),
        ("keys", "b", 1000.0 + 10 * 86400),
    ):
        totals.take(json.dumps([1, kind, [[name, value]]]).encode())
    return totals.state()


def parsed(state: State, accept: str = "") -> dict[str, Metric]:
    raw, _ = exposition(state, accept)
    parse = openmetrics if accept else prometheus
    return {metric.name: metric for metric in parse(raw.decode())}


def values(state: State) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    samples = (sample for metric in parsed(state).values() for sample in metric.samples)
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}


@pytest.mark.parametrize(("accept", "content_type"), [("", "text/plain"), (ACCEPT, "application/openmetrics-text")])
def test_every_family_stands_in_either_form(accept: str, content_type: str) -> None:
    assert exposition(full(), accept)[1].startswith(content_type)
    found = parsed(full(), accept)
    assert set(found) == {f"smilla_{family.name}" for family in FAMILIES}
    assert {name: metric.type for name, metric in found.items()} == {
        f"smilla_{family.name}": family.kind for family in FAMILIES
    }


def test_numbers_are_what_was_counted() -> None:
    found = values(full())
    fate = {"action": "encrypted", "format": "smime", "source": "smimea", "dnssec": "secure", "reason": "usable"}
    assert found["smilla_recipients_total", tuple(sorted(fate.items()))] == 7
    assert found["smilla_messages_total", (("reply", "451"),)] == 2
    assert found["smilla_worker_deaths_total", ()] == 3
    assert found["smilla_workers", ()] == 1
    assert found["smilla_workers_wanted", ()] == 2
    assert found["smilla_config_reloads_total", (("result", "failed"),)] == 5
    assert found["smilla_config_last_reload_successful", ()] == 0
    assert found["smilla_observing", ()] == 1
    assert found["smilla_journal_owed_copies", ()] == 2
    assert found["smilla_stage_gate_open", ()] == 1
    assert found["smilla_seal_key_age_seconds", ()] == 600
    assert found["smilla_resolver_proven", ()] == 0


def test_keys_that_end_later_include_those_that_end_sooner() -> None:
    found = values(full())
    assert [found["smilla_keys_expiring", (("days", days),)] for days in ("1", "7", "14", "30")] == [0, 1, 2, 2]


def test_a_histogram_adds_up() -> None:
    found = values(full())
    assert found["smilla_message_seconds_bucket", (("le", "0.001"),)] == 1
    assert found["smilla_message_seconds_bucket", (("le", "0.0025"),)] == 3
    assert found["smilla_message_seconds_bucket", (("le", "+Inf"),)] == 7
    assert (found["smilla_message_seconds_count", ()], found["smilla_message_seconds_sum", ()]) == (7, 9.5)


def test_what_cannot_be_known_is_left_out_rather_than_guessed() -> None:
    state = replace(full(), gauges={}, sample=Sample(Journal(problem="unreadable"), Stage()))
    names = {name for name, _ in values(state)}
    assert names & {"smilla_resolver_proven", "smilla_journal_owed_copies", "smilla_stage_gate_open"} == set()
    assert values(state)["smilla_journal_readable", ()] == 0


def test_no_label_can_hold_an_address() -> None:
    labels = {label for family in FAMILIES for label in family.labels}
    known = {"action", "format", "source", "dnssec", "reason", "reply", "result", "days", "version", "python"}
    known |= {"way", "verdict"}
    assert labels == known
    assert any(family.kind == HISTOGRAM for family in FAMILIES)


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=\xff", "application/openmetrics-text; version=x;q=y"]
)
def test_an_accept_that_makes_no_sense_gets_the_plain_text(accept: str) -> None:
    assert exposition(State(0.0, Facts(), Sample()), accept) == exposition(State(0.0, Facts(), Sample()), "")
