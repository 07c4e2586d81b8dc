"""The notice beside every answer that people read: no diagnosis, and where to find help in a crisis."""

from mentallam.errors import MentallamError

SCREENING = "Research screening, never a diagnosis."

_HELP = {
    "international": "In a crisis, find a line near you at https://findahelpline.com or call your emergency number.",
    "us": "In a crisis in the United States, call or text 988.",
    "uk": "In a crisis in the United Kingdom or Ireland, call Samaritans on 116 123.",
    "de": "In einer Krise in Deutschland: Telefonseelsorge 0800 111 0 111.",
}


def notice(region: str) -> str:
    """Return the notice.

    Args:
        region: Whose crisis line it names: a key of `_HELP`, or none for no line.

    Raises:
        MentallamError: No line is known for the region.
    """
    if region == "none":
        return SCREENING
    if region not in _HELP:
        raise MentallamError(f"notice={region} is no region that is known: use one of {', '.join((*_HELP, 'none'))}")
    return f"{SCREENING} {_HELP[region]}"
