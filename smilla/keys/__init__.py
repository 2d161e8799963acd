"""Finding the key of an address: where it may be published, and whether it may be used."""
