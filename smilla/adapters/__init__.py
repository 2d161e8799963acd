"""The only users of sockets, files and subprocesses; each bounded in time and size."""
