"""``smilla relay``: SMTP in, SMTP out, for whoever has no milter, in the foreground until SIGTERM."""

from __future__ import annotations

import argparse
from pathlib import Path

from smilla import config, log
from smilla.adapters import log_target
from smilla.cli import EX_NO, say, with_config
from smilla.errors import ConfigError, EngineMissing, SmillaError
from smilla.server import relay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla relay`` takes."""
    with_config(parser)


def run(options: argparse.Namespace) -> int:
    """Exit 0: after SIGTERM; 1: the relay cannot start; 78: a faulty configuration."""
    path = Path(options.config).absolute()
    settings = config.load(path)
    log.configure(settings.log.level, settings.log.format, log_target.opened(settings.log.target))
    try:
        return relay.run(path, settings)
    except (ConfigError, EngineMissing):
        raise
    except SmillaError as error:
        say("error", str(error))
        return EX_NO
