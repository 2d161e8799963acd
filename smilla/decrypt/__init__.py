"""Encrypted messages and private keys in, the MIME entity inside out, or the reason why not."""
