"""`{'loss': '0.12', 'kl': nan}`: a printed dict, read without evaluating anything.

ast.literal_eval would refuse the NaN that matters most, and every np.float64(...); what is nested
is nobody's figure. Each character is read once, whatever a model wrote into the line.
"""

import re

_PAIR = re.compile(
    r"""'([^'"{}]{1,200})'\s*:\s*(?:'([^']*)'|"([^"]*)"|([\w.]+\([^()]*\))|([^\s,'"{}()\[\]]+))"""
)


def pairs(text: str) -> list[tuple[str, str]]:
    """Keys and values of the outermost dict that `text` begins with, as texts."""
    return [
        (match[1], next((value for value in match.groups()[1:] if value is not None), ""))
        for match in _PAIR.finditer(text)
    ]
