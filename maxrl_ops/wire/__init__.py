"""The contract between trainer, supervisor, daemon and CLI: settings, log, control, run files.

Standard library only, and the one part of maxrl_ops that `trainer` may import.
"""
