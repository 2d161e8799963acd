"""The servers that the MTA talks to: the daemon, the milter, the stage, and what they run on."""
