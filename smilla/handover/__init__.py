"""How copies leave other than in the MTA's own message: re-injection with its journal, and the sealed message."""
