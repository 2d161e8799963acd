"""The status page: what it shows, who may see it, and how it is written.  No message data is ever here."""
