"""The command line: a client of the public API, and the operator's commands."""
