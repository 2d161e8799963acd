"""What smilla writes is opened by programs that we did not write."""
