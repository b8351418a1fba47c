"""Why something of somebody else's failed, in one line that can stand in a log or a terminal."""


def one_line(text: str, longest: int) -> str:
    """`text` with anything unprintable as spaces, at most `longest` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else line[: longest - 3] + "..."
