"""``smilla watch``: what is published against what is held, and the mail servers of one's own domains (watch_mx)."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

from smilla import config, log
from smilla.adapters import new_file
from smilla.address import EmailAddress
from smilla.cli import EX_NO, EX_OK, EX_TEMPFAIL, UsageError, address_list, printable, together, watch_mx, with_config
from smilla.cli.progress import Progress
from smilla.cli.watch_mail import KEYS, Summary, add_mail_arguments, send
from smilla.config import Config
from smilla.keys.discovery import directory
from smilla.keys.publication import UNTOLD, Publication, State, compare
from smilla.ports import Ports
from smilla.server.runtime import make_ports


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla watch`` takes."""
    with_config(parser)
    parser.add_argument("--days", metavar="N", type=int, default=30, help="warn so many days before a key ends (30)")
    parser.add_argument("--metrics", metavar="FILE", help="also write counts for node_exporter's textfile collector")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--quiet", action="store_true", help="only what needs doing")
    address_list.add_file_argument(parser)
    watch_mx.add_arguments(parser)
    add_mail_arguments(parser)
    parser.add_argument("address", metavar="ADDR", nargs="*", help="only these addresses of the key folder")


def run(options: argparse.Namespace) -> int:
    """Exit 0: all is well; 1: something is to be done; 75: nothing that is known, but some could not be told."""
    if not 0 <= options.days <= address_list.MOST_DAYS:
        raise UsageError(f"--days: give a number from 0 to {address_list.MOST_DAYS}")
    settings = config.load(Path(options.config))
    log.silence()
    if options.mx:
        return watch_mx.run(options, settings)
    if not settings.keys.directory:
        raise UsageError("there is nothing to compare with: [keys] directory is empty")
    ports = make_ports(settings)
    now = ports.clock.now()
    found = _compared(options, settings, ports, now)
    shown = [one for one in found if one.state is not State.SAME or not options.quiet]
    if options.json:
        print(json.dumps([_as_json(one) for one in shown], indent=2, ensure_ascii=False))
    else:
        for one in shown:
            print(printable(_in_words(one)))
    if options.metrics:
        new_file.replace(Path(options.metrics), _metrics(found, now).encode("ascii"))
    return _exit_code(found) if not options.mail or _mailed(found, options, settings, now) else EX_TEMPFAIL


def _in_words(one: Publication) -> str:
    return " ".join(filter(None, (f"{one.address}:", one.format, f"{one.state.value}:", one.text)))


def _mailed(found: Sequence[Publication], options: argparse.Namespace, settings: Config, now: datetime) -> bool:
    todo = [one for one in found if one.state is not State.SAME]
    facts = [" ".join((one.address, one.format, one.state.value, one.held, one.published)) for one in todo]
    return send(Summary(KEYS, [_in_words(one) for one in todo], facts), options, settings, now)


def _exit_code(found: Sequence[Publication]) -> int:
    """What is certain comes first: somebody must act."""
    states = {one.state for one in found} - {State.SAME}
    if states - UNTOLD:
        return EX_NO
    return EX_TEMPFAIL if states else EX_OK


def _compared(options: argparse.Namespace, settings: Config, ports: Ports, now: datetime) -> list[Publication]:
    until = now + timedelta(days=options.days)
    is_given = options.address or options.file is not None
    asked = address_list.given(options, settings.append_domain) if is_given else _in_folder(ports)

    def look(one: EmailAddress) -> tuple[Publication, ...]:
        return compare(one, ports, settings, now, until)

    found = together.each(asked, look, lambda one: one.domain, Progress(is_wanted=not options.quiet))
    return [one for publications in found for one in publications]


def _in_folder(ports: Ports) -> list[EmailAddress]:
    found = (directory.address_of(name) for name in ports.folder.all_names())
    return list({str(one): one for one in found if one is not None}.values())


def _as_json(one: Publication) -> dict[str, object]:
    ends_at = one.ends_at.isoformat() if one.ends_at else None
    return asdict(one) | {"state": one.state.value, "ends_at": ends_at}


def _metrics(found: Sequence[Publication], now: datetime) -> str:
    """Counts, never an address."""
    counts = Counter(one.state for one in found)
    lines = [
        "# HELP smilla_watch_keys Keys of the folder by how what is published stands to them.",
        "# TYPE smilla_watch_keys gauge",
        *(f'smilla_watch_keys{{state="{state.value}"}} {counts[state]}' for state in State),
        "# HELP smilla_watch_timestamp_seconds When smilla watch last looked.",
        "# TYPE smilla_watch_timestamp_seconds gauge",
        f"smilla_watch_timestamp_seconds {now.timestamp():.0f}",
    ]
    return "\n".join(lines) + "\n"
