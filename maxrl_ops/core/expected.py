"""What the tuning guide expects of correctness, by algorithm: (iteration, from, to)."""

EXPECTED = {
    "GRPO": ((100, 0.60, 0.70), (500, 0.75, 0.85), (1000, 0.85, 0.95)),
    "MaxRL": ((50, 0.75, 0.85), (100, 0.85, 0.95), (500, 0.95, 0.99)),
}
