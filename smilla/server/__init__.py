"""What serves the MTA: the daemon, the milter, the stage, and what they run on."""
