"""Tables that people open in a spreadsheet: no id can start a formula there, and each is read back as it was.

A spreadsheet takes a value that begins with `=`, `+`, `-` or `@` for a formula. Such a value gets an apostrophe before
it, the spreadsheets' own mark of a text. A value that begins with apostrophes before such a character gets one more, so
that `unmarked` can always take exactly one away.
"""

import pandas as pd

# Excel also takes the wide forms of these characters, and skips a tab, a carriage return or a line feed.
_FORMULA = r"^('*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n])"


def marked(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with an apostrophe before each string that a spreadsheet would take for a formula."""
    return _replaced(table, _FORMULA, r"'\1")


def unmarked(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table that `marked` was given."""
    return _replaced(table, rf"^'(?={_FORMULA[1:]})", "")


def _replaced(table: pd.DataFrame, pattern: str, replacement: str) -> pd.DataFrame:
    texts = table.select_dtypes(["object", "string"]).columns
    return table.assign(**{name: table[name].str.replace(pattern, replacement, regex=True) for name in texts})
