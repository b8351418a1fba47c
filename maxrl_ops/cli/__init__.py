"""The command line: one module a command group, loaded when its command runs."""
