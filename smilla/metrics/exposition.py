"""The Prometheus text or OpenMetrics, as the scraper asks: the only importer of prometheus_client.

Of that library only the exposition is used.  Its own counters would need files that all processes share (its
multiprocess mode), which grow and can be corrupt after a crash.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from smilla.metrics.catalogue import COUNTER, EXPIRY_DAYS, FAMILIES, GAUGE, SECONDS, Family
from smilla.metrics.totals import State

_Rows = Iterable[tuple[tuple[str, ...], float]]


def exposition(state: State, accept: str) -> tuple[bytes, str]:
    """The octets and their Content-Type.  ``accept`` is the request's Accept, "" if it has none."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(state))
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError, LookupError):  # the library is not ready for every Accept that a client may send
        encode, content_type = choose_encoder("")
    return encode(registry), content_type


class _Collector(Collector):
    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Every family, also one without a sample."""
        gauges = _gauges(self._state)
        for family in FAMILIES:
            if family.kind is COUNTER:
                yield _counter(family, self._state)
            elif family.kind is GAUGE:
                yield _gauge(family, gauges.get(family.name, ()))
            else:
                yield _histogram(family, self._state)


def _counter(family: Family, state: State) -> Metric:
    found = CounterMetricFamily(f"smilla_{family.name}", family.help, labels=family.labels)
    rows: _Rows = [(series[1:], n) for series, n in state.counts.items() if series[0] == family.name]
    for labels, number in (*rows, *_counters_of_parent(family, state)):
        found.add_metric(labels, number)
    return found


def _counters_of_parent(family: Family, state: State) -> _Rows:
    if family.name == "worker_deaths":
        return [((), state.facts.workers.died)]
    if family.name == "config_reloads":
        return [(("ok",), state.facts.reloads.done), (("failed",), state.facts.reloads.failed)]
    return ()


def _gauge(family: Family, rows: _Rows) -> Metric:
    found = GaugeMetricFamily(f"smilla_{family.name}", family.help, labels=family.labels)
    for labels, number in rows:
        found.add_metric(labels, number)
    return found


def _histogram(family: Family, state: State) -> Metric:
    found = HistogramMetricFamily(f"smilla_{family.name}", family.help, labels=family.labels)
    for series, timing in state.timings.items():
        if series[0] == family.name:
            reached, buckets = 0.0, []
            for bound, number in zip((*map(str, SECONDS), "+Inf"), timing[:-1], strict=True):
                reached += number
                buckets.append((bound, reached))
            found.add_metric(series[1:], buckets, timing[-1])
    return found


def _gauges(state: State) -> dict[str, _Rows]:
    facts, resolver = state.facts, state.resolver
    plain = {
        "cache_entries": state.gauge("cache_entries"),
        "cache_bytes": state.gauge("cache_bytes"),
        "spool_bytes": state.gauge("spool_bytes"),
        "workers": facts.workers.running,
        "workers_wanted": facts.workers.wanted,
        "resolvers_asked": resolver.asked,
        "resolvers_proven": resolver.proven,
        "config_last_reload_successful": not facts.reloads.last_failed,
        "observing": facts.observing,
        "start_time_seconds": facts.started_at,
        **_of_disk(state),
    }
    if resolver.asked:
        plain["resolver_proven"] = resolver.proven > 0
    rows: dict[str, _Rows] = {name: [((), float(number))] for name, number in plain.items()}
    rows["build_info"] = [((facts.version, platform.python_version()), 1.0)]
    rows["keys_expiring"] = [
        ((str(limit),), float(sum(keys for days, keys in state.expiring.items() if days < limit)))
        for limit in EXPIRY_DAYS
    ]
    return rows


def _of_disk(state: State) -> dict[str, float]:
    journal, stage = state.sample.journal, state.sample.stage
    found: dict[str, float] = {"journal_readable": not journal.problem, "seal_keys": stage.keys}
    if not journal.problem:
        found |= {
            "journal_unfinished_messages": journal.unfinished,
            "journal_owed_copies": journal.owed,
            "journal_unknown_copies": journal.unknown,
            "journal_oldest_seconds": journal.oldest_s,
        }
    if stage.used:
        found["stage_gate_open"] = not stage.problem
    if stage.newest_key_at:
        found["seal_key_age_seconds"] = max(0.0, state.taken_at - stage.newest_key_at)
    return found
