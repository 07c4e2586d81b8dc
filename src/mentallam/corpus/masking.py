"""Masking of what may identify a person: e-mail addresses, links, user names, phone numbers."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from linkify_it import LinkifyIt
from phonenumbers import PhoneNumberMatcher

KINDS = ("email", "url", "user", "phone")

# What follows the prefix of a user name: Reddit's u/name and the @name of most others.
_USER_NAMES = {"u/": re.compile(r"[\w-]{3,20}\b"), "@": re.compile(r"[^\W\d][\w.-]*\w\b")}
# The assumed country of numbers without a country code; Reddit's posts are mostly North American.
_REGION = "US"
# Checked first: most posts contain neither, and the libraries need milliseconds to find that out.
_LINK_LIKE = re.compile(r"[@/]|\S\.\S")
_DIGIT = re.compile(r"\d")
_FEWEST_DIGITS = 7


def masked(text: str) -> tuple[str, set[str]]:
    """Return the text with marks such as [URL] for what was found, and the kinds found, from `KINDS`.

    Masking a masked text changes nothing.
    """
    kinds: set[str] = set()
    while True:
        before = text
        text, found = _masked_once(text)
        if text == before:
            return text, kinds
        # A mark may reveal its neighbour: in "@one@two" the first pass sees only the first name.
        kinds |= found


def _masked_once(text: str) -> tuple[str, set[str]]:
    links = _links(text) if _LINK_LIKE.search(text) else []
    text = _replaced(text, links)
    # Numbers come second, so that digits in a link are not taken for a phone number.
    numbers = _numbers(text) if len(_DIGIT.findall(text)) >= _FEWEST_DIGITS else []
    return _replaced(text, numbers), {kind for _, _, kind in (*links, *numbers)}


def _links(text: str) -> list[tuple[int, int, str]]:
    found = _linkify().match(text) or ()
    return [(link.index, link.last_index, kind) for link in found if (kind := _kind(link))]


def _numbers(text: str) -> list[tuple[int, int, str]]:
    return [(number.start, number.end, "phone") for number in PhoneNumberMatcher(text, _REGION)]


@cache
def _linkify() -> Any:
    linkify = LinkifyIt()
    for prefix, name in _USER_NAMES.items():
        linkify.add(prefix, {"validate": lambda _, text, start, name=name: _length(name, text, start)})
    return linkify


def _length(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() - start if found else 0


def _kind(link: Any) -> str | None:
    """Return the kind of a link, or None if the text only resembles one."""
    if link.schema == "mailto:":
        return "email"
    if link.schema in _USER_NAMES:
        return "user"
    # "I slept all day.it helped" is a forgotten space far more often than an address without www, path or scheme.
    if link.schema == "" and re.fullmatch(r"[^./]+\.[^./]{2}", link.raw):
        return None
    return "url"


def _replaced(text: str, found: list[tuple[int, int, str]]) -> str:
    for start, end, kind in reversed(found):
        text = f"{text[:start]}[{kind.upper()}]{text[end:]}"
    return text
