"""May this key be used for this address now?  Only these modules construct a UsableKey."""

import warnings

from cryptography.utils import CryptographyDeprecationWarning

# The gates report what is wrong with a stranger's key; cryptography's warnings need not appear on stderr.
# RFC 5280 section 4.1.2.2, for one, asks us to tolerate zero or negative serial numbers.
warnings.filterwarnings("ignore", category=UserWarning, module=r"smilla\.keys\.validity\.")
warnings.filterwarnings("ignore", message="Parsed a serial number", category=CryptographyDeprecationWarning)
