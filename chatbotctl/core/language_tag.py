"""What a language's tag is: asked of settings and of what an operator types. Must import nothing of ours."""

from __future__ import annotations

import re

#: Characters, as the column has them (storage/schema.py). BCP 47 has no limit, but who chats needs no longer one.
LONGEST_LANGUAGE = 20
#: BCP 47 without its rarities: a language, and perhaps script, region and variants.
_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def language_tag(text: str) -> str | None:
    """`text` as BCP 47 advises to write it (`pt_br` becomes `pt-BR`); None when it has not the shape of a tag."""
    value = text.strip().replace("_", "-")
    if len(value) > LONGEST_LANGUAGE or not _TAG.fullmatch(value):
        return None
    first, *rest = value.split("-")
    return "-".join([first.lower(), *(_subtag(part) for part in rest)])


def _subtag(part: str) -> str:
    """A script as Hant, a region as BR, anything else in small letters."""
    if len(part) == 4 and part.isalpha():
        return part.capitalize()
    return part.upper() if len(part) == 2 else part.lower()
