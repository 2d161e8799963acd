"""``smilla explain``: the dry run, every step and reason."""

from __future__ import annotations

import argparse
import json

from smilla import reply
from smilla.cli import EX_NOPERM, EX_OK, EX_TEMPFAIL, describe, transaction
from smilla.model import Disposition

_EXIT = {Disposition.DEFER: EX_TEMPFAIL, Disposition.REFUSE: EX_NOPERM, Disposition.HOLD: EX_TEMPFAIL}


def run(options: argparse.Namespace) -> int:
    """Exits as ``smilla encrypt`` would: 0, 75 deferred, 77 refused."""
    done = transaction.process(options)
    settings, outcome = done.config, done.outcome
    answer = reply.for_outcome(outcome, settings.policy.mixed, observe=settings.observe)
    if options.json:
        print(json.dumps(describe.outcome_as_json(outcome, answer), indent=2, ensure_ascii=False))
    else:
        print("\n".join(describe.outcome_in_words(outcome, answer, settings.observe)))
    return _EXIT.get(outcome.disposition, EX_OK)
