"""The small task `maze`: ways through small mazes, of which many are right."""
