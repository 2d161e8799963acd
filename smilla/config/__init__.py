"""The configuration: options and their texts, and the reader of the file."""

from smilla.config.reader import DEFAULT_PATH, Config, Rule, load, parse

__all__ = ["DEFAULT_PATH", "Config", "Rule", "load", "parse"]
