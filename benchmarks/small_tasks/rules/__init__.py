"""The small task `rules`: eight rules for strings of digits, from easy to hardly ever right."""
