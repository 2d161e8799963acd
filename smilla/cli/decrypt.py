"""``smilla decrypt``: the milter that decrypts for some recipients, in the foreground until SIGTERM."""

from __future__ import annotations

import argparse
from pathlib import Path

from smilla import config, log
from smilla.adapters import log_target
from smilla.cli import EX_NO, EX_OK, printable, say, with_config
from smilla.errors import ConfigError, EngineMissing, SmillaError
from smilla.server.decrypter import Decrypter, runtime


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``smilla decrypt`` takes."""
    with_config(parser)
    parser.add_argument("--check", action="store_true", help="read the configuration and the keys, and end")


def run(options: argparse.Namespace) -> int:
    """Exit 0: after SIGTERM, or no fault was found; 1: the milter cannot start; 78: a faulty configuration, or a key
    that cannot be used."""
    path = Path(options.config).absolute()
    settings = config.load(path)
    if options.check:
        runtime(settings)
        for rule in settings.decrypt_rule:
            keys = [*rule.key_files, *([f"gpg in {rule.gnupg_home}"] if rule.gnupg_home else [])]
            print(printable(f"{rule.recipient}: {', '.join(keys)}"))
        return EX_OK
    log.configure(settings.log.level, settings.log.format, log_target.opened(settings.log.target))
    try:
        return Decrypter(path, settings).run()
    except (ConfigError, EngineMissing):
        raise
    except SmillaError as error:
        say("error", str(error))
        return EX_NO
