"""``smilla explain``: the dry run, every step and reason."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

from smilla.adapters.postfix_lines import PostfixLines
from smilla.answer import reply
from smilla.cli import EX_NOPERM, EX_OK, EX_TEMPFAIL, say, story, transaction
from smilla.pipeline import answer_to

_EXIT = {
    reply.Verb.TEMPFAIL: EX_TEMPFAIL,
    reply.Verb.REJECT: EX_NOPERM,
    reply.Verb.QUARANTINE: EX_TEMPFAIL,
    reply.Verb.ACCEPT: EX_OK,
    reply.Verb.DISCARD: EX_OK,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla explain`` takes."""
    transaction.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace) -> int:
    """The exit code follows the filter's reply: 0 accepted, 75 deferred or held, 77 refused (with observe, too)."""
    done = transaction.process(options, over_smtp=True)
    found = _story(done, all_away=len(done.turned_away) == len(options.recipients))
    if options.json:
        print(json.dumps(story.as_json(found), indent=2, ensure_ascii=False))
    else:
        print("\n".join(story.in_words(found)))
    return _EXIT[found.reply.verb]


def _story(done: transaction.Transaction, *, all_away: bool) -> story.Story:
    if all_away:
        return story.Story(done, done.turned_away[0].reply)
    lines, ports = PostfixLines(done.config.stage), done.ports
    is_known = not done.config.stage.check or lines.is_readable()
    if not is_known:
        ports = replace(ports, stage_problem=lambda: "")
    answer, why_not_sealed = answer_to(done.session, done.outcome, ports, done.config)
    if answer.is_sealed and not is_known:
        say("warning", "whether the stage is ready is for root and smilla's user to read; run this as one of them")
    return story.Story(done, answer, why_not_sealed, is_stage_known=is_known)
