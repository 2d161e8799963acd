"""May this key be used for this address now?  The only rooms that construct a UsableKey."""
