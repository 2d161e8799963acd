"""What smilla counts: the workers' deltas, their totals, and the snapshot for people and pages."""
