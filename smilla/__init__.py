"""smilla: a mail filter that encrypts to the keys that recipients publish in DNS."""

__version__ = "1.0.0"
