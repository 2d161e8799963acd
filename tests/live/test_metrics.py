"""The alerts and the dashboard, against promtool and what smilla behind a real Postfix exposes.

client -> smtpd -> smilla -> queue -> stage -> smtpd -> sink         the stage's process and a worker count
this test <- /metrics <- the reporter
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.lab.client import SMTPClient
from tests.lab.processes import LOOPBACK, free_port, session_members, wait_until
from tests.lab.programs import REPOSITORY, MissingProgramError, find_program
from tests.live.conftest import cannot
from tests.milter.scraping import agree, logged, recipients, samples, scraped, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.chain import Chain
    from tests.live.conftest import ChainFactory

pytestmark = pytest.mark.live

RULES = REPOSITORY / "contrib" / "prometheus" / "smilla-rules.yml"
CASES = RULES.with_name("smilla-rules.test.yml")
DASHBOARD = REPOSITORY / "contrib" / "grafana" / "smilla.json"
_NAME = re.compile(r"\bsmilla_[a-z_]+")


def promtool(*words: str | Path, given: bytes = b"") -> str:
    try:
        program = find_program("promtool")
    except MissingProgramError as error:
        cannot(str(error))
    done = subprocess.run([program, *words], input=given, capture_output=True, check=False, cwd=RULES.parent)
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, text
    return text


def test_the_rules_are_what_promtool_takes_and_each_fires_for_its_own_fault() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("test", "rules", CASES)


def test_every_alert_is_tried_with_its_fault_and_without() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    tried = re.findall(r"alertname: (\w+)", CASES.read_text())
    assert len(alerts) == len(set(alerts)) > 8
    assert all(tried.count(alert) >= 2 for alert in alerts)


def _expressions(node: Any) -> Iterator[str]:
    """Every query of a dashboard."""
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key in ("expr", "query") and isinstance(value, str))
        for value in node.values():
            yield from _expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from _expressions(value)


def test_every_query_of_the_dashboard_is_one_that_prometheus_can_read() -> None:
    queries = [q for q in _expressions(json.loads(DASHBOARD.read_text())) if "smilla_" in q and "label_values" not in q]
    assert len(queries) > 20
    plain = [query.replace("$__rate_interval", "5m") for query in queries]
    rules = [{"record": f"r:{number}", "expr": query} for number, query in enumerate(plain)]
    # YAML is a superset of JSON, and promtool has no other way to check a query without a server.
    text = json.dumps({"groups": [{"name": "dashboard", "rules": rules}]})
    promtool("check", "rules", "/dev/stdin", given=text.encode())


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture
def staged(chain: ChainFactory, port: int) -> Chain:
    return chain({"policy": {"mixed": "stage"}, "metrics": {"listen": f"{LOOPBACK}:{port}"}})


def _send(chain: Chain, *people: str) -> int:
    names = [f"{name}@r.test" for name in people]
    raw = b"From: sender@s.test\r\nTo: " + ", ".join(names).encode() + b"\r\nSubject: x\r\n\r\nhello\r\n"
    with SMTPClient(chain.port()) as client:
        return client.send("sender@s.test", names, raw)[-1].code


def test_all_names_that_rules_and_dashboard_use_are_exposed_and_promtool_finds_no_fault(
    staged: Chain, port: int
) -> None:
    smilla = staged.filters["outbound"]
    assert _send(staged, "alice") == 250
    assert _send(staged, "alice", "bob", "nobody") == 250
    # What was sealed comes back to the stage, whose process counts the three again.
    assert wait_until(lambda: logged(smilla).total() == 7, 60), smilla.log
    assert agree(smilla, port)
    assert wait_until(lambda: samples(port).get(("smilla_resolver_proven", ())) == 1, 60)
    names = {sample.name for metric in text_string_to_metric_families(scraped(port)[0].decode())
             for sample in metric.samples}  # fmt: skip
    told = {f"{name}_total" if kind == "counter" else name for name, kind in _types(scraped(port)[0].decode())}
    used = set(_NAME.findall(RULES.read_text())) | {
        name for query in _expressions(json.loads(DASHBOARD.read_text())) for name in _NAME.findall(query)
    }
    only_while_observing = {"smilla_observed_recipients_total"}
    # See test_wkd.py and tests/milter/test_decrypt.py.
    only_if_asked = {"smilla_fetch_seconds_bucket", "smilla_fetch_seconds_count", "smilla_decrypt_recipients_total"}
    assert used - only_while_observing - only_if_asked <= names
    assert only_while_observing | {"smilla_fetch_seconds"} <= told
    assert len(used) > 20
    promtool("check", "metrics", given=scraped(port)[0])


def _types(text: str) -> list[tuple[str, str]]:
    return [(metric.name, metric.type) for metric in text_string_to_metric_families(text)]


def test_what_is_sealed_counts_at_the_stage_and_killed_workers_take_no_count_away(staged: Chain, port: int) -> None:
    smilla = staged.filters["outbound"]
    assert _send(staged, "alice", "bob", "nobody") == 250
    assert wait_until(lambda: logged(smilla).total() == 6, 60), smilla.log
    assert agree(smilla, port)
    staged.postfix.wait_until_empty()  # the stage has answered, too
    before = recipients(port)
    assert sum(n for fate, n in before.items() if fate[0] == "sealed") == 3
    assert sum(n for fate, n in before.items() if fate[0] == "encrypted") == 2
    children = set(session_members(smilla.child.pid)) - {smilla.child.pid}
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: snapshot(smilla).workers.died == len(children) == 2, 60)
    assert wait_until(lambda: snapshot(smilla).workers.running == 2, 60)
    assert recipients(port) == before
    assert _send(staged, "alice") == 250
    assert agree(smilla, port, 60)
    found = snapshot(smilla)
    assert found.stage.used
    assert (found.stage.keys, found.journal.unfinished, found.journal.problem) == (1, 0, "")
