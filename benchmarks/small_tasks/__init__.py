"""Two tasks of one's own whose trainings cost CPU seconds, for studies of many runs."""
