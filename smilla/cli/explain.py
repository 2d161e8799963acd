"""``smilla explain``: the dry run, every step and reason."""

from __future__ import annotations

import argparse
import json

from smilla.answer import reply
from smilla.cli import EX_NOPERM, EX_OK, EX_TEMPFAIL, story, transaction

_EXIT = {
    reply.Verb.TEMPFAIL: EX_TEMPFAIL,
    reply.Verb.REJECT: EX_NOPERM,
    reply.Verb.QUARANTINE: EX_TEMPFAIL,
    reply.Verb.ACCEPT: EX_OK,
    reply.Verb.DISCARD: EX_OK,
}


def run(options: argparse.Namespace) -> int:
    """Exits by the filter's reply: 0 accepted, 75 deferred or held, 77 refused (also where smilla only observes)."""
    done = transaction.process(options, over_smtp=True)
    answer = reply.for_outcome(done.outcome, done.config.policy.mixed, observe=False)
    if len(done.turned_away) == len(options.recipients):
        answer = done.turned_away[0].reply
    told = story.Story(done, answer)
    if options.json:
        print(json.dumps(story.as_json(told), indent=2, ensure_ascii=False))
    else:
        print("\n".join(story.in_words(told)))
    return _EXIT[answer.verb]
