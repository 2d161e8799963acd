"""From an address to candidates for a key; one file a source."""
