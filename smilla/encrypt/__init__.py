"""Octets and usable keys in, ciphertext out, or an exception."""
