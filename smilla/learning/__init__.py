"""Keys that inbound mail brings, and whether anything may be learned from a message."""
