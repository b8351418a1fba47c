"""Performance claims, measured: us and a peer in alternating rounds of one run."""
