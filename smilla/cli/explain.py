"""``smilla explain``: the dry run, every step and reason."""

from __future__ import annotations

import argparse
import json

from smilla import reply
from smilla.cli import EX_NOPERM, EX_OK, EX_TEMPFAIL, describe, transaction

_EXIT = {
    reply.Verb.TEMPFAIL: EX_TEMPFAIL,
    reply.Verb.REJECT: EX_NOPERM,
    reply.Verb.QUARANTINE: EX_TEMPFAIL,
    reply.Verb.ACCEPT: EX_OK,
}


def run(options: argparse.Namespace) -> int:
    """Exits by the filter's reply: 0 accepted, 75 deferred or held, 77 refused (also where smilla only observes)."""
    done = transaction.process(options)
    settings, outcome = done.config, done.outcome
    answer = reply.for_outcome(outcome, settings.policy.mixed, observe=False)
    if options.json:
        print(json.dumps(describe.outcome_as_json(outcome, answer), indent=2, ensure_ascii=False))
    else:
        print("\n".join(describe.outcome_in_words(outcome, answer, settings.observe)))
    return _EXIT[answer.verb]
