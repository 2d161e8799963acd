"""How copies leave by ways of our own: re-injection with its journal, and the seal for the MTA's queue."""
