"""Texts of users in Markdown: ids, names and wordings are shown as they are, and never become markup."""

import re

# What starts a link, an image, HTML, an entity, emphasis, code or a table's cell, and `_` except within a word.
_INLINE = re.compile(r"[\\`*\[\]<>&|~#]|(?<!\w)_|_(?!\w)")
# What starts a list, a quotation or a heading at the start of a line.
_BLOCK = re.compile(r"^(?=[-+=])|(?<=^\d)(?=[.)])|(?<=^\d\d)(?=[.)])|(?<=^\d\d\d)(?=[.)])")


def as_text(text: object) -> str:
    """Return a text on one line, escaped so that Markdown shows it as it is, also within a table's cell."""
    line = " ".join(str(text).split())
    return _BLOCK.sub(r"\\", _INLINE.sub(r"\\\g<0>", line))


def as_code(text: object, in_table: bool = False) -> str:
    """Return a text on one line as code; its fence is longer than any run of backticks in it.

    Args:
        text: The text.
        in_table: Whether it is in a table, whose cells are split before code is looked for.
    """
    line = " ".join(str(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    padding = " " if line.startswith("`") or line.endswith("`") else ""
    code = f"{fence}{padding}{line}{padding}{fence}"
    return code.replace("|", "\\|") if in_table else code
