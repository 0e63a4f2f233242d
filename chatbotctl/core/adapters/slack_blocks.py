"""What a post looks like in Slack: blocks that show customer text as it was written, and the fallback text.

Called by slack_channel.py only. No I/O, no SDK.

Customer and model text stands in `rich_text` blocks. There Slack reads structure only from element types: a mention, a
link, an emoji or a bold word is an element of its own, and a `text` element is shown letter for letter. So nothing that
a customer types can ping (`<!channel>`), format (`*x*`), link or draw. `mrkdwn` would parse all of that, and although
`plain_text` parses little, Slack does not say whether it decodes `&lt;` there. The price: `rich_text` has no documented
limits, so ours below are those of sections. docs.slack.dev/reference/block-kit/blocks/rich-text-block
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chatbotctl.core.records.slack import Post

#: UTF-16 units in one text element: the limit of a section's text object, kept here although rich_text states none.
ELEMENT_LIMIT = 3_000
#: Units for the text and its translation together. Slack refuses a post (`msg_blocks_too_long`) at some 12,000 to
#: 13,300 characters in all blocks, their frames included, and does not say how it counts: slackapi/bolt-js#2509, #2867.
TEXT_BUDGET = 10_000
#: Units of the fallback text after escaping. `msg_too_long` begins at 4,000.
FALLBACK_LIMIT = 3_000
#: Units of a title: it may hold a customer's profile name, which has no limit of its own.
TITLE_LIMIT = 300
#: More mentions than this are left out, so that their line stays far below ELEMENT_LIMIT.
MENTION_LIMIT = 50

_USER_ID = re.compile(r"[UW][A-Z0-9]+")
_SPACE = re.compile(r"\s")
#: Line ends of other systems.
_LINE_END = re.compile("\r\n?")
#: What has no shape on a screen or tricks the reader's eye: control characters other than tab and newline, the two
#: bidi overrides (they make `gpj.exe` read `exe.jpg`; true right-to-left text needs neither), and lone surrogates,
#: which cannot be sent at all.
_UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e\ud800-\udfff]")
#: The only three that Slack decodes in mrkdwn, fallback texts and topics.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass(frozen=True, slots=True)
class Message:
    """The two forms of one post that chat.postMessage takes."""

    #: For notifications, screen readers and clients without blocks; escaped.
    text: str
    blocks: tuple[dict[str, object], ...]


def render(post: Post) -> Message:
    """The Slack form of `post`, for any Unicode text in it and of any length.

    Too long texts are cut and end in a line that says by how many characters.
    """
    title = _one_line(post.title, TITLE_LIMIT) or "Message"
    text = clean(post.text)
    translation = clean(post.translation or "")
    # Each of the two may use what the other leaves of the budget, and has half of it for certain.
    text_budget = max(TEXT_BUDGET // 2, TEXT_BUDGET - sum(map(_units, translation)))
    lead = ""
    blocks: list[dict[str, object]] = []
    if post.alert:
        lead = " ".join([":rotating_light:", *(f"<@{user}>" for user in user_ids(post.mention)[:MENTION_LIMIT])])
        # mrkdwn, because `<@U...>` is the documented way to notify; nothing in this line was written by a customer.
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": lead}})
    blocks.append(_rich_text([_bold(title)]))
    if text.strip():
        blocks.append(_rich_text(_text_elements(text, text_budget)))
    if translation.strip():
        left = TEXT_BUDGET - min(text_budget, sum(map(_units, text)))
        blocks.append(_rich_text([_bold("Translation")]))
        blocks.append(_rich_text(_text_elements(translation, left)))
    fallback = ": ".join(part for part in (title, text.strip()) if part)
    words = escaped(fallback, FALLBACK_LIMIT - len(lead) - 1)
    return Message(text=f"{lead} {words}".strip(), blocks=tuple(blocks))


def clean(text: str) -> str:
    """`text` with every line end made a newline and everything unreadable replaced by U+FFFD."""
    return _UNREADABLE.sub("\ufffd", _LINE_END.sub("\n", text))


def escaped(text: str, limit: int) -> str:
    """`text` cleaned and escaped for mrkdwn, fallback texts and topics, in at most `limit` UTF-16 units.

    What is too long ends in `…`; an entity is never cut in two.
    """
    pieces: list[str] = []
    room = limit
    rest = clean(text)
    for position, char in enumerate(rest):
        piece = _ENTITIES.get(char, char)
        cost = len(piece) + (char > "\uffff")
        is_last = position == len(rest) - 1
        if cost > room - (0 if is_last else 1):
            pieces.append("…")
            break
        pieces.append(piece)
        room -= cost
    return "".join(pieces)


def channel_topic(text: str) -> str:
    """`text` as a channel topic: one line, escaped, at most 250 characters (`too_long` beyond)."""
    return escaped(" ".join(text.split()), 250)


def channel_name(name: str) -> str:
    """A name that conversations.create takes near `name`: [a-z0-9_-], at most 80 characters."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower())[:80].strip("-_") or "conversation"


def user_ids(ids: Iterable[str]) -> list[str]:
    """Those of `ids` that have the form of a Slack user id, each once, in order."""
    return [user for user in dict.fromkeys(ids) if _USER_ID.fullmatch(user)]


def _one_line(text: str, limit: int) -> str:
    line = " ".join(clean(text).split())
    kept, cut = _beginning(line, limit)
    return f"{kept}…" if cut else kept


def _text_elements(text: str, budget: int) -> list[dict[str, object]]:
    kept, cut = _beginning(text, budget)
    elements: list[dict[str, object]] = [{"type": "text", "text": part} for part in _parts(kept)]
    if cut:
        note = f"\n… ({cut:,} more characters)"
        elements.append({"type": "text", "text": note, "style": {"italic": True}})
    return elements


def _beginning(text: str, budget: int) -> tuple[str, int]:
    """As much of the beginning of `text` as costs at most `budget`, and the number of characters left off."""
    for position, char in enumerate(text):
        budget -= _units(char)
        if budget < 0:
            return text[:position], len(text) - position
    return text, 0


def _parts(text: str) -> Iterator[str]:
    """`text` in parts of at most ELEMENT_LIMIT, cut after whitespace where there is some in the last tenth."""
    while text:
        part, left = _beginning(text, ELEMENT_LIMIT)
        if left:
            spaces = [match.end() for match in _SPACE.finditer(part, len(part) * 9 // 10)]
            part = part[: spaces[-1]] if spaces else part
        yield part
        text = text[len(part) :]


def _units(char: str) -> int:
    """What `char` takes in a post: UTF-16 units in JSON, the dearest way in which Slack may be counting."""
    return 2 if char > "\uffff" or char in '"\\\n\t' else 1


def _bold(text: str) -> dict[str, object]:
    return {"type": "text", "text": text, "style": {"bold": True}}


def _rich_text(elements: list[dict[str, object]]) -> dict[str, object]:
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": elements}]}
