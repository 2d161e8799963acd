"""May this key be used for this address now?  The only rooms that construct a UsableKey."""

import warnings

from cryptography.utils import CryptographyDeprecationWarning

# What cryptography thinks of a stranger's key or certificate is no reason for a line on stderr: the gates say it.
# Serial numbers that are zero or negative, for one, RFC 5280 section 4.1.2.2 asks to bear with.
warnings.filterwarnings("ignore", category=UserWarning, module=r"smilla\.validity\.")
warnings.filterwarnings("ignore", message="Parsed a serial number", category=CryptographyDeprecationWarning)
