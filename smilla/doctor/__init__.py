"""The doctor: what ``smilla config check`` finds, and the line that mends it."""
