"""Idempotent cleaning of a text, and which of its steps changed it; without pandas, whose import takes a second."""

import html
import re
import unicodedata
from collections.abc import Callable
from html.entities import html5
from itertools import groupby

import ftfy

from mentallam.corpus.masking import masked

_ENTITY = re.compile(r"&(?:#(?:[0-9]+|[xX][0-9a-fA-F]+)|[A-Za-z][A-Za-z0-9]*);")
# Fractions, superscript and subscript digits: NFKC would turn "1\u00bd" into "11/2" and "10\u2075" into "105".
_RAISED = "\u00b2\u00b3\u00b9\u00bc-\u00be\u2070\u2074-\u2079\u2080-\u2089\u2150-\u215f\u2189"
_NOT_RAISED = re.compile(f"[^{_RAISED}]+")
_JOINERS = re.compile("[\u200c\u200d]+")
# The flags of England, Scotland and Wales are a black flag followed by the letters of their code as invisible tags.
_TAGS = re.compile("(\U0001f3f4[\U000e0061-\U000e007a]{3,6}\U000e007f)|[\U000e0001-\U000e007f]+")


def _resolve_entities(text: str) -> str:
    """Resolve entities that end in a semicolon; "&copy=2" in a link is a parameter."""
    return _ENTITY.sub(_entity, text)


def _entity(found: re.Match[str]) -> str:
    # html.unescape also resolves the beginning of an unknown name: "&notit;" would lose its "&not".
    known = found[0][1] == "#" or found[0][1:] in html5
    return html.unescape(found[0]) if known else found[0]


def _normalise_unicode(text: str) -> str:
    return _NOT_RAISED.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)


def _collapse_whitespace(text: str) -> str:
    """Put one blank for white space, or one empty line where it holds an empty line: a paragraph ends there."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n\n".join(" ".join(paragraph) for is_visible, paragraph in groupby(lines, bool) if is_visible)


def _remove_invisible(text: str) -> str:
    """Remove control characters, and format characters such as zero-width spaces and byte order marks.

    Characters that shape the visible text stay: white space, one joiner between emoji or between letters of a script
    that needs it, and the tags of a flag.
    """
    if text.isprintable():
        return text
    invisible = {
        character
        for character in set(text)
        if unicodedata.category(character) in ("Cc", "Cf") and not character.isspace()
    }
    removed = [character for character in invisible if not _JOINERS.match(character) and not _TAGS.match(character)]
    text = text.translate(dict.fromkeys(map(ord, removed)))
    return _JOINERS.sub(_joiner, _TAGS.sub(r"\1", text))


def _joiner(found: re.Match[str]) -> str:
    text, start, end = found.string, found.start(), found.end()
    between = start > 0 and end < len(text)
    return text[start] if between and _takes_joiner(text[start - 1], text[end]) else ""


def _takes_joiner(before: str, after: str) -> bool:
    if all(map(_is_latin, (before, after))):
        return False
    kinds = unicodedata.category(before)[0], unicodedata.category(after)[0]
    # An emoji may end with a variation selector, which is a mark.
    return kinds in (("S", "S"), ("M", "S")) or set(kinds) <= {"L", "M", "N"}


def _is_latin(character: str) -> bool:
    return character.isascii() or unicodedata.name(character, "").startswith("LATIN")


STEPS: dict[str, Callable[[str], str]] = {
    "html_entities": _resolve_entities,
    "mojibake": ftfy.fix_encoding,  # UTF-8 that was read in another encoding
    "unicode": _normalise_unicode,
    "invisible_characters": _remove_invisible,
    "whitespace": _collapse_whitespace,  # last: a line of invisible characters is an empty one
}


def clean_text(text: str) -> tuple[str, set[str]]:
    """Return the cleaned text and the names of the steps that changed it.

    One step can create work for another, such as an entity that was escaped twice. The steps therefore repeat until
    nothing changes, which makes cleaning idempotent.
    """
    changed: set[str] = set()
    while not _is_plain(text):
        before = text
        for name, step in STEPS.items():
            stepped = step(text)
            if stepped != text:
                changed.add(name)
            text = stepped
        if text == before:
            break
    return text, changed


def _is_plain(text: str) -> bool:
    """Tell whether it is certain, at a glance, that no step would change a text; true for most English texts."""
    return (
        text.isascii() and text.isprintable() and "&" not in text and "  " not in text and text[:1] != " " != text[-1:]
    )


def prepare_text(text: str, mask: bool) -> tuple[str, set[str]]:
    """Return a text as a model reads it, cleaned and, with `mask`, masked; and the names of what changed it."""
    prepared, changed = clean_text(text)
    before = ""
    while mask and prepared != before:
        before = prepared
        prepared, kinds = masked(prepared)
        # A mark may have replaced the letter that a joiner needed.
        prepared, uncovered = clean_text(prepared)
        changed |= uncovered | {f"masked_{kind}" for kind in kinds}
    return prepared, changed
