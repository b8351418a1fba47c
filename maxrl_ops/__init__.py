"""maxrl-ops: the autopilot for reinforcement-learning runs with verifiable rewards."""

__version__ = "0.1.0"
