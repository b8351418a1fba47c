"""The trainer: GRPO and MaxRL on verifiable rewards. Configured by environment, works alone."""
