"""Messages that lie in a mailbox already: each is replaced by another form of itself, and none is lost."""
