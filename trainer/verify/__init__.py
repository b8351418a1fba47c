"""Verdicts about Rust code nobody vouches for: compiled in batches, run in sandboxes."""
