"""Real runs that are made sick on purpose, and whether somebody saves them."""
