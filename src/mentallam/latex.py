"""Texts of users in LaTeX: ids, names and wordings are printed as they are, and never become commands."""

import re

# What LaTeX reads as a command or, at the start of a table's row, as an option of the row before, and what its default
# font encoding prints as another character.
_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "`": r"\textasciigrave{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{character: f"{{{character}}}" for character in "[*"},
        **{character: f"${character}$" for character in "<>|"},
        '"': "{''}",
        "\N{PLUS-MINUS SIGN}": r"$\pm$",
        "\N{DOWNWARDS ARROW}": r"$\downarrow$",
        "\N{MINUS SIGN}": "$-$",
        "\0": "{}",
    }
)
_LIGATURE = re.compile(r"(?<=([-',]))(?=\1)")  # two of these become one other character
_NEGATIVE = re.compile(r"(?<![\w.])-(?=\d)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def as_latex(text: object) -> str:
    """Return a text on one line, escaped so that LaTeX prints it as it is.

    Letters outside Latin scripts are left as they are: pdfLaTeX refuses them, XeLaTeX and LuaLaTeX print them with a
    font that has them.
    """
    line = " ".join(_CONTROL.sub(" ", str(text)).split())
    return _LIGATURE.sub("\0", line).translate(_ESCAPES)


def number_as_latex(text: str) -> str:
    """Return the text of figures of this project for LaTeX, with minus signs in place of hyphens."""
    return as_latex(_NEGATIVE.sub("\N{MINUS SIGN}", text))
