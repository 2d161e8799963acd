"""How a command's own mail goes out: the options that ``expiring --mail`` and ``watch --mail`` share."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser, *, sender: str, days: int, state: str) -> None:
    """Adds ``--from``, ``--smtp``, ``--repeat`` and ``--state``.  ``sender`` says who sends where --from is not
    given; ``days`` is the default of --repeat; ``state`` the name of the file in the spool."""
    parser.add_argument("--from", dest="sender", metavar="ADDR", help=f"the sender of the mail ({sender})")
    parser.add_argument("--smtp", metavar="HOST:PORT", help="where the mail goes ([reinject] smtp)")
    again = f"days before the same mail again ({days})"
    parser.add_argument("--repeat", metavar="DAYS", type=int, default=days, help=again)
    parser.add_argument("--state", metavar="FILE", help=f"what was mailed ({state} in [reinject] spool)")
