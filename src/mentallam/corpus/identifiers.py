"""What of a value may be shown in a message: an id or a heading, but nothing that may be a post's text."""

import re

# At most one word that does not end like a sentence.
_IDENTIFIER = re.compile(r"\s*(\w([\w.:/-]*\w)?)?\s*")

LONGEST_IDENTIFIER = 40
"""Characters of the longest id or heading."""


def shown(value: str) -> str:
    """Return an identifier for a message; describe a value that may be a post's text (shifted columns)."""
    return repr(value) if is_identifier(value) else described(value)


def is_identifier(value: str) -> bool:
    """Tell whether a value looks like an id or a heading: at most one word of at most 40 characters."""
    return len(value) <= LONGEST_IDENTIFIER and _IDENTIFIER.fullmatch(value) is not None


def described(value: str) -> str:
    """Return the length of a value that may be a post's text, in place of it."""
    return f"(a value of {len(value)} characters)"
