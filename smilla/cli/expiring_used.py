"""``smilla expiring --used``: how many keys end soon of those that the running filter used within a week.

It is the filter that says so, over the status socket.  It keeps neither addresses nor fingerprints, so there are counts
only.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime

from smilla.cli import EX_NO, EX_OK, UsageError
from smilla.cli.status import asked
from smilla.errors import ConfigError, SmillaError
from smilla.metrics.snapshot import Snapshot

MOST_DAYS = 30  # that the filter keeps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--used``."""
    parser.add_argument(
        "--used", action="store_true", help="count those of the keys that the running filter used within a week"
    )


def run(options: argparse.Namespace) -> int:
    """Exit 0: none of these keys ends within the days; 1: some do; 75: the filter does not run, or cannot be asked."""
    if options.address or options.file is not None or options.directory or options.mail or options.all:
        raise UsageError("--used counts, and knows no addresses: give none, and no -f, --directory, --all or --mail")
    if options.days > MOST_DAYS:
        raise UsageError(f"--days: with --used, give {MOST_DAYS} or fewer, since the filter keeps no later ends")
    try:
        found = asked(options)
    except ConfigError:
        raise
    except SmillaError as error:
        raise SmillaError(f"only the running filter knows which keys it used: {error}") from error
    ends = {each.days: each.keys for each in found.expiring if each.days < options.days}
    if options.json:
        print(json.dumps(_as_json(found, ends), indent=2))
    elif not options.quiet:
        print(_in_words(found, ends, options.days))
    return EX_NO if ends else EX_OK


def _in_words(found: Snapshot, ends: dict[int, int], days: int) -> str:
    since = f"{datetime.fromtimestamp(found.started_at, UTC):%Y-%m-%d %H:%M} UTC"
    used = f"of the keys that were used within a week (the filter runs since {since})"
    if not ends:
        return f"no key ends within {days} days {used}"
    keys, first = sum(ends.values()), min(ends)
    return f"{keys} {'keys end' if keys > 1 else 'key ends'} within {days} days, the first in {first}, {used}"


def _as_json(found: Snapshot, ends: dict[int, int]) -> dict[str, object]:
    return {
        "taken_at": datetime.fromtimestamp(found.taken_at, UTC).isoformat(),
        "started_at": datetime.fromtimestamp(found.started_at, UTC).isoformat(),
        "ends": [{"days_left": days, "keys": keys} for days, keys in sorted(ends.items())],
    }
