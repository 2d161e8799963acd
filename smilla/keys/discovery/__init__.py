"""From an address to candidates for a key; one file for each source."""
