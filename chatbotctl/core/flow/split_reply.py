"""Cuts a reply into as few WhatsApp messages as its length needs, each cut where a reader would pause.

Called after formatting and translation, before the parts go to the outbox. Nothing but white space is lost at a cut.
A ``` block that spans a cut is closed and opened again; other signs never span more than a line, and a cut inside a
line is rare enough to leave them. Takes time linear in the text's length; does no I/O.
"""

from __future__ import annotations

import regex

#: What Twilio takes in one WhatsApp message (error 21617 beyond it). It does not say whether it counts code points or
#: UTF-16 units, so we count units: never fewer than code points, and an emoji-laden reply cannot be refused.
LIMIT = 1600

_FENCE = "```"
#: Below this limit, closing and opening fences would take a large part of every message.
_SMALLEST_FOR_FENCES = 64

#: Code that begins a part keeps its indentation up to this many characters.
_DEEPEST_INDENTATION = 32

#: White space at which a line may be cut: not the non-breaking kinds, and not where an accent sits on the space.
_EXTENDS = r"[\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=ZWJ}]"
_SPACE = rf"[^\S\xa0\u2007\u202f]+(?!{_EXTENDS})"
_PARAGRAPH = regex.compile(rf"(?=\n[^\S\n]*\n){_SPACE}")
_LINE = regex.compile(rf"(?=\n){_SPACE}")
_SENTENCE = regex.compile(
    rf"""(?=\s)(?<=[.!?…؟۔।]["'”’»)\]*_~]{{0,4}}){_SPACE}"""
    rf"|(?<=[。！？][」』”’）]?)(?!{_EXTENDS}|[。！？」』”’）])"  # no space follows in Chinese and Japanese
)
_WORD = regex.compile(_SPACE)
_VISIBLE = regex.compile(r"\S")
_GRAPHEME = regex.compile(r"\X")
#: The beginning of a list item or a quote: a cut right behind it would part the sign from its text.
_ONLY_MARKER = regex.compile(r"[^\S\n]*(?:[-*•>]|\d{1,4}[.)])")


def split(text: str, limit: int = LIMIT) -> list[str]:
    """`text` in parts of 1 to `limit` UTF-16 code units, none of them blank; no part at all for a blank text.

    A cut is made between paragraphs, else lines, sentences, words, graphemes (what a reader sees as one character),
    the first of these that leaves the part at least half full; a grapheme longer than a part is cut inside.
    Raises ValueError for a `limit` under 2, the length of one emoji.
    """
    if limit < 2:
        raise ValueError("a part must have room for one character: 2 UTF-16 units")
    text = text.strip()
    fences = _FENCE in text and limit >= _SMALLEST_FOR_FENCES
    parts: list[str] = []
    start, opening = 0, ""
    while start < len(text):
        room = limit - len(opening)
        if _reach(text, start, room) == len(text):
            parts.append(opening + text[start:])
            break
        end = _best_cut(text, start, _reach(text, start, room - (len(_FENCE) if fences else 0)), limit)
        part = opening + text[start:end].rstrip()
        if part == opening:  # nothing but white space, of the kinds that are no boundary
            start = end
            continue
        in_code = fences and part.count(_FENCE) % 2 == 1
        parts.append(part + _FENCE if in_code else part)
        start, opening = _resume(text, end, in_code)
    return parts


def _reach(text: str, start: int, units: int) -> int:
    """The furthest index up to which `text[start:]` takes at most `units` UTF-16 code units."""
    window = text[start : start + units]
    if not window or max(window) <= "\uffff":
        return start + len(window)
    taken = 0
    for offset, character in enumerate(window):
        taken += 2 if character > "\uffff" else 1
        if taken > units:
            return start + offset
    return start + len(window)


def _best_cut(text: str, start: int, reach: int, limit: int) -> int:
    """The index at which the part that begins at `start` and may go up to `reach` ends best."""
    first = _first_visible(text, start)
    half = max(start + (reach - start) // 2, first + 1)
    for boundary in (_PARAGRAPH, _LINE, _SENTENCE, _WORD):
        cut = _last(boundary, text, start, half, reach)
        if cut is not None:
            return cut
    return _before_url(text, start, half, limit) or _between_graphemes(text, start, reach)


def _last(boundary: regex.Pattern[str], text: str, start: int, lowest: int, highest: int) -> int | None:
    """The last boundary from `lowest` to `highest` that does not part a list item's sign from its text."""
    # Two characters beyond: the boundary's own space, and what follows it.
    places = [match.start() for match in boundary.finditer(text, lowest, highest + 2)]
    for place in reversed(places):
        line = max(text.rfind("\n", start, place) + 1, start)
        if place <= highest and not _ONLY_MARKER.fullmatch(text, line, place):
            return place
    return None


def _before_url(text: str, start: int, half: int, limit: int) -> int | None:
    """The space before the word that crosses `half`, when it is a URL that fits into a part: it stays clickable."""
    place = _last(_WORD, text, start, _first_visible(text, start) + 1, half)
    if place is None:
        return None
    word = text[place : place + limit].split(maxsplit=1)[0]
    return place if "://" in word and len(word) < limit - 2 * len(_FENCE) else None


def _between_graphemes(text: str, start: int, reach: int) -> int:
    # A slice, because \X looks back from every flag to the first of a row of flags. One character more than fits: what
    # follows decides whether a grapheme ends.
    cut = start
    for match in _GRAPHEME.finditer(text[start : reach + 1]):
        if start + match.end() <= reach:
            cut = start + match.end()
    return cut if cut > start else reach


def _resume(text: str, end: int, in_code: bool) -> tuple[int, str]:
    """Where the part after a cut at `end` begins, and the fence that opens it when the cut was `in_code`."""
    space = _WORD.match(text, end)
    start = space.end() if space else end
    if not in_code:
        return start, ""
    if text.startswith(_FENCE, start):  # nothing of the code is left: its own closing fence is done with
        space = _WORD.match(text, start + len(_FENCE))
        return (space.end() if space else start + len(_FENCE)), ""
    line = text.rfind("\n", end, start) + 1
    return (line if line and start - line <= _DEEPEST_INDENTATION else start), _FENCE


def _first_visible(text: str, start: int) -> int:
    match = _VISIBLE.search(text, start)
    return match.start() if match else len(text)
