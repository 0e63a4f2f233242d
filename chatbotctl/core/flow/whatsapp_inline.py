"""One line of a WhatsApp message from the parser's inline tokens: which sign stands where, and what a link becomes.

Called by whatsapp_format.py for every paragraph, heading and table cell. WhatsApp reads a sign only where it touches
no letter on the outside and no space on the inside, and only within a line; where it would show the sign itself, the
style is dropped. Does no parsing of Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from markdown_it.token import Token

_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)(.*)>", re.DOTALL)
_HREF = re.compile(r"""\bhref\s*=\s*["']?([^\s"'>]+)""", re.IGNORECASE)

BOLD, _ITALIC, _STRIKE = 1, 2, 4
_MARKS = {BOLD: "*", _ITALIC: "_", _STRIKE: "~"}
_STYLE_OF_TOKEN = {"strong": BOLD, "em": _ITALIC, "s": _STRIKE}
_STYLE_OF_TAG = {
    "b": BOLD,
    "strong": BOLD,
    "i": _ITALIC,
    "em": _ITALIC,
    "s": _STRIKE,
    "del": _STRIKE,
    "strike": _STRIKE,
}
_LINE_TAGS = frozenset({"br", "p", "div", "li", "tr", "hr", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6"})
_SILENT_TAGS = frozenset(
    {"span", "u", "sub", "sup", "small", "big", "font", "center", "mark", "code", "table", "tbody"}
)

#: A piece of text with its styles.
_Run = tuple[str, int]


def inline_text(tokens: Sequence[Token], style: int = 0) -> str:
    """The text of one block: runs of one style each, then line by line, because WhatsApp's marks end with the line."""
    inline = _Inline(style)
    for token in tokens:
        inline.take(token)
    lines: list[list[_Run]] = [[]]
    for text, run_style in inline.runs:
        first, *others = text.split("\n")
        lines[-1].append((first, run_style))
        lines.extend([(other, run_style)] for other in others)
    return "\n".join(_line(line) for line in lines)


class _Inline:
    """Turns a block's inline tokens into runs."""

    def __init__(self, style: int) -> None:
        self.runs: list[_Run] = []
        self._style = style
        self._depth = dict.fromkeys(_MARKS, 0)
        #: Open links: the address, and the index of the label's first run.
        self._links: list[tuple[str, int]] = []

    def take(self, token: Token) -> None:
        name = token.type.rpartition("_")[0]
        if name in _STYLE_OF_TOKEN:
            self._depth[_STYLE_OF_TOKEN[name]] += token.nesting
        elif token.type == "link_open":
            self._links.append((str(token.attrGet("href") or ""), len(self.runs)))
        elif token.type == "link_close":
            self._close_link()
        elif token.type == "code_inline":
            self._add(f"`{token.content}`")
        elif token.type == "image":
            self._add(token.content + _link_target(str(token.attrGet("src") or ""), token.content))
        elif token.type in {"softbreak", "hardbreak"}:
            self._add("\n")
        elif token.type == "html_inline":
            self._html(token.content)
        else:
            self._add(token.content)

    def _html(self, html: str) -> None:
        closing, tag, attributes = _tag(html)
        if tag in _STYLE_OF_TAG and not attributes:
            self._depth[_STYLE_OF_TAG[tag]] += -1 if closing else 1
        elif tag == "a" and closing:
            self._close_link()
        elif tag == "a":
            href = _HREF.search(attributes)
            self._links.append((href.group(1) if href else "", len(self.runs)))
        elif tag in _LINE_TAGS:
            self._add("\n")
        elif tag and tag not in _SILENT_TAGS:
            self._add(html)  # <your name>, or a <b and c> d: not HTML

    def _close_link(self) -> None:
        if self._links:
            href, start = self._links.pop()
            self._add(_link_target(href, "".join(text for text, _ in self.runs[start:])))

    def _add(self, text: str) -> None:
        style = self._style
        for mark, count in self._depth.items():
            style |= mark if count > 0 else 0
        self.runs.append((text, style))


def _tag(html: str) -> tuple[bool, str, str]:
    """Whether it is an end tag, its name in lower case ("" for comments and the like), and its attributes."""
    match = _TAG.fullmatch(html)
    return (bool(match[1]), match[2].lower(), match[3]) if match else (False, "", "")


def _link_target(href: str, label: str) -> str:
    """What follows a link's label: the address in brackets, nothing when the label says it, alone without a label."""
    shown = re.sub(r"^(?:mailto|tel):", "", href)
    if not shown or shown.startswith(("#", "sandbox:")):  # leads nowhere outside of the model's own page
        return ""
    if _bare(shown) == _bare(label):
        return ""
    return f" ({shown})" if label.strip() else shown


def _bare(address: str) -> str:
    return re.sub(r"^(?:https?://)?(?:www\.)?", "", address.strip().casefold()).rstrip("/")


def _line(runs: Sequence[_Run]) -> str:
    """One line with its marks, each where WhatsApp reads it: outside touching no letter, inside touching no space."""
    runs = _outer_space_plain([run for run in runs if run[0]])
    for mark in _MARKS:
        runs = _only_visible(runs, mark)
    out: list[str] = []
    opened: list[int] = []
    for text, style in [*runs, ("", 0)]:
        while opened and any(not style & mark for mark in opened):
            out.append(_MARKS[opened.pop()])
        for mark, sign in _MARKS.items():
            if style & mark and mark not in opened and not text.isspace():
                opened.append(mark)
                out.append(sign)
        out.append(text)
    return "".join(out).strip(" \t")


def _outer_space_plain(runs: Sequence[_Run]) -> list[_Run]:
    """The runs with white space at their ends as runs of its own, styled only where both sides are."""
    pieces: list[_Run] = []
    for text, style in runs:
        core = text.strip()
        start = text.find(core) if core else len(text)
        pieces += [(text[:start], -1), (core, style), (text[start + len(core) :], -1)]
    pieces = [piece for piece in pieces if piece[0]]
    before = _running_styles(pieces)
    after = _running_styles(pieces[::-1])[::-1]
    return [
        (text, left & right if style < 0 else style)
        for (text, style), left, right in zip(pieces, before, after, strict=True)
    ]


def _running_styles(pieces: Sequence[_Run]) -> list[int]:
    """For every piece the style of the last visible piece up to it; 0 before the first."""
    styles, current = [], 0
    for _, style in pieces:
        current = current if style < 0 else style
        styles.append(current)
    return styles


def _only_visible(runs: list[_Run], mark: int) -> list[_Run]:
    """The runs without `mark` where WhatsApp would show the sign itself: beside a letter, or at the end of a URL."""
    result = list(runs)
    start = 0
    while start < len(runs):
        end = start
        while end < len(runs) and runs[end][1] & mark:
            end += 1
        if end == start:
            start += 1
            continue
        before = runs[start - 1][0][-1:] if start else ""
        after = runs[end][0][:1] if end < len(runs) else ""
        last_word = "".join(text for text, _ in runs[start:end]).split()[-1:]
        ends_in_url = bool(last_word) and "://" in last_word[0] and not last_word[0].endswith(")")
        if before.isalnum() or after.isalnum() or ends_in_url:
            result[start:end] = [(text, style & ~mark) for text, style in runs[start:end]]
        start = end
    return result
