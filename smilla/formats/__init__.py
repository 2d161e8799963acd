"""Octet formats that several stages read or write: MIME, DER, OpenPGP.  No I/O, no decisions."""
