"""``smilla config check | show | sample``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from smilla import config
from smilla.adapters import milter_client, postfix, postfix_lines
from smilla.adapters.milter_client import Who
from smilla.adapters.postfix_lines import PostfixLines
from smilla.cli import EX_CONFIG, EX_NO, EX_OK, postfix_size, say, with_config, with_postfix
from smilla.config import Config
from smilla.config import text as config_text
from smilla.doctor import examination, finding, postfix_check
from smilla.doctor.finding import Finding, Kind
from smilla.errors import ConfigError, EngineMissing, SmillaError
from smilla.server.runtime import make_ports

_NOT_ASKED = finding.hint(Kind.NOT_ATTACHED, "postfix", postfix_lines.NOT_ASKED, postfix_lines.ATTACH)
_ASK_S = 2.0
_SEEN_BEFORE = "(found by somebody who saw Postfix's processes; only they can say that it is mended)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla config`` takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = with_config(actions.add_parser("check", help="name every fault"))
    check.add_argument(
        "--probe",
        action="store_true",
        help="try all that the filter needs, as its user: resolver, sockets, files; judge the settings of the MTA",
    )
    check.add_argument(
        "--postfix",
        action="store_true",
        help="check Postfix's lines for the stage, and leave the result where the filter reads it",
    )
    check.add_argument("--json", action="store_true", help="print one JSON document")
    with_postfix(check)
    with_config(actions.add_parser("show", help="print the effective configuration"))
    actions.add_parser("sample", help="print a commented sample with every option")


def run(options: argparse.Namespace) -> int:
    """Exit 0: in order; 1: a probe fails; 78: a faulty configuration."""
    if options.action == "sample":
        print(config_text.sample(), end="")
        return EX_OK
    if options.action == "show":
        print(config_text.show(config.load(Path(options.config))), end="")
        return EX_OK
    try:
        found = check(options)
    except (ConfigError, EngineMissing) as fault:
        if not options.json:
            raise
        print(_document(options.config, _faults(fault)))
        return EX_CONFIG
    if options.json:
        print(_document(options.config, found))
    else:
        report(_before_the_start(options.config, found) if options.postfix else found)
    return EX_NO if any(each.severity == "error" or each == _NOT_ASKED for each in found) else EX_OK


def _before_the_start(path: str, found: list[Finding]) -> list[Finding]:
    """While no filter runs, what Postfix has not read yet is a step to do, and no error in the log of the start: the
    reload may come after it."""
    unread = [each for each in found if each.kind is Kind.POSTFIX_NOT_READ and each.severity == "error"]
    if not unread or milter_client.ask(config.load(Path(path)).milter.socket, _ASK_S).who is not Who.NOBODY:
        return found
    return [replace(each, severity="to do") if each in unread else each for each in found]


def check(options: argparse.Namespace) -> list[Finding]:
    """All findings, in the order in which to mend them.  ``options`` has config, probe, postfix and postfix_config.
    Raises ConfigError and EngineMissing."""
    path = Path(options.config)
    settings = config.load(path)
    ports = make_ports(settings)
    found = [finding.fine(Kind.CONFIGURATION, options.config, "the file has no fault")]
    if options.postfix:
        behind = settings.behind("postfix" if options.postfix_config or postfix.is_installed() else "")
        found += _check_lines(behind, options.postfix_config)
        return finding.in_order(found)
    found += examination.of_file(settings, ports, options.postfix_config)
    if options.probe:
        found += examination.of_surroundings(settings, path, options.postfix_config)
        found += _told(settings, found, options.postfix_config)
    return finding.in_order(found)


def report(found: Iterable[Finding]) -> None:
    """What is in order on stdout; the rest on stderr."""
    for each in found:
        for severity, text in each.lines:
            if severity:
                say(severity, text)
            else:
                print(text)


def _document(name: str, found: Iterable[Finding]) -> str:
    return json.dumps({"configuration": name, "findings": [each.document for each in found]}, indent=2)


def _faults(fault: ConfigError | EngineMissing) -> list[Finding]:
    kind = Kind.CONFIGURATION if isinstance(fault, ConfigError) else Kind.ENGINE
    texts = fault.faults if isinstance(fault, ConfigError) else [str(fault)]
    return [finding.error(kind, "", text) for text in texts]


def _told(settings: Config, found: Iterable[Finding], folder: str | None) -> list[Finding]:
    """If Postfix is in order, the filter that runs hears of it now, as by ``--postfix``; otherwise it would defer
    messages for minutes, until its own next look.  Bad news it gets by its own look or ``--postfix`` only, for this may
    be the check of a configuration that it does not have."""
    behind = settings.behind("postfix" if folder or postfix.is_installed() else "")
    is_wrong = any(each.severity == "error" and each.subject.startswith("postfix") for each in found)
    answers = any(each.kind is Kind.STAGE and each.text == "answers" for each in found)
    if behind.policy.mixed != "stage" or not behind.stage.check or is_wrong or not answers:
        return []
    faults = [each.line for each in _check_lines(behind, folder) if each.severity == "error" or each == _NOT_ASKED]
    if faults:
        text = f"the filter could not be told that its lines for the stage are there, and looks itself: {faults[0]}"
        return [finding.hint(Kind.STAGE_WAY, "postfix", text)]
    return [finding.fine(Kind.STAGE_WAY, "postfix", "its lines for the stage are there, and the filter knows it now")]


def _check_lines(settings: Config, folder: str | None) -> list[Finding]:
    """Which of Postfix's lines for the stage are missing; keeps the result for the filter."""
    if settings.policy.mixed != "stage":
        if not settings.policy.mixed:
            text = "postconf is not found here"
            return [finding.error(Kind.NO_MTA, "postfix", text, "set [milter] mta, or PATH, or --postfix-config")]
        return [
            finding.fine(Kind.STAGE_WAY, "postfix", f"not checked, because [policy] mixed is {settings.policy.mixed}")
        ]
    asked, lines = postfix.Postfix(folder or "", examination.POSTFIX_S), PostfixLines(settings.stage)
    began_at = time.time()
    try:
        instance = asked.folder()
        if postfix_check.asks_nobody(settings, asked):
            stamps = {path: file.stamp for path, file in asked.files.items()}
            lines.keep(instance, [_NOT_ASKED.line], stamps, kinds=[_NOT_ASKED.kind], began_at=began_at)
            return [_NOT_ASKED]
        found = list(postfix_check.problems(settings, asked, in_doubt="error"))
        missing = [each for each in found if each.severity == "error"]
        limit = postfix_size.limit(asked)
        stamps = {path: file.stamp for path, file in asked.files.items()}
        before = _seen_before(lines, instance) if any(each.kind is Kind.POSTFIX_NOT_TOLD for each in found) else []
        in_doubt = any(each.kind is Kind.POSTFIX_UNSEEN for each in missing) or bool(before)
        kinds = [each.kind for each in missing]
        texts = [each.line for each in missing]
        lines.keep(instance, texts, stamps, in_doubt=in_doubt, kinds=kinds, size_limit=limit, began_at=began_at)
    except SmillaError as error:
        return [finding.error(Kind.POSTFIX_UNSEEN, "postfix", str(error))]
    for other, text in lines.others(instance):
        line = f"check that one too: --postfix-config {other}"
        found.append(finding.warning(Kind.STAGE_WAY, f"postfix in {other}", text, line))
    return found + before


def _seen_before(lines: PostfixLines, instance: str) -> list[Finding]:
    """Findings that rest on the running processes: somebody who cannot see these cannot say that they are mended."""
    kept = zip(lines.kinds(instance), lines.findings(instance), strict=True)
    return [
        finding.error(Kind.POSTFIX_NOT_READ, "", f"{text} {_SEEN_BEFORE}")
        for kind, text in kept
        if kind == Kind.POSTFIX_NOT_READ
    ]
