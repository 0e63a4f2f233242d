"""A model's Markdown as WhatsApp shows it: `*bold*`, `_italic_`, `~strike~`, `` `code` ``, lists and quotes.

Called before a reply is split (split_reply.py) and sent. WhatsApp knows no headings, tables or links, so these become
plain lines. A word that a customer has to read exactly (a URL, an e-mail address, `snake_case`, 2*3*4) is never
touched. Never raises, whatever the text is; does no I/O.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.emphasis import tokenize as commonmark_emphasis
from markdown_it.rules_inline.strikethrough import tokenize as gfm_strikethrough
from markdown_it.token import Token

from chatbotctl.core.flow.whatsapp_inline import BOLD, inline_text

#: Characters. Longer than any reply worth sending to a phone; beyond it only clean() is done, because the parser's
#: slowest corners take time that grows with the square of the length (20,000 opening brackets: 0.2 s).
_LONGEST_MARKDOWN = 20_000
#: Levels of lists and quotes inside each other (a list item counts two). The parser drops what is nested deeper, so a
#: text that comes near to it is left as it is.
_DEEPEST = 40

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_NEWLINES = re.compile(r"\r\n?|[\v\f\x85\u2028\u2029]")
_CONTROLS = re.compile(r"[\x01-\x08\x0e-\x1f\x7f-\x9f]")
_CITATION = re.compile(
    r"(?<![ \t])[ \t]*(?:【[^【】\n]{0,80}†[^【】\n]{0,200}】|【\d{1,4}:\d{1,4}】"  # 【4:0†source】 of file search
    r"|\ue200[^\ue200\ue201\n]{0,400}\ue201"  # cite turn0file0 between private-use marks
    r"|\ue200(?:file)?cite(?:\ue202turn\d+[a-z]+\d+)*"  # the same, cut off by a stream's end
    r"|\b(?:file)?cite(?:turn\d{1,4}[a-z]{1,12}\d{1,4})+)"  # the same, when the marks were lost on the way
)
_STRAY_CITATION_MARKS = re.compile(r"[\ue200-\ue206]")
_BLANK_LINES = re.compile(r"\n{3,}")
_LINE_END = re.compile(r"(?<![ \t])[ \t]+$", re.MULTILINE)

#: Words whose `*`, `_` and `~` are part of them: URLs and e-mail addresses, without closing punctuation or markup.
_VERBATIM = re.compile(
    r"(?:https?://|www\.)[^\s<>\[\]]*[^\s<>\[\]*_~`.,;:!?)\"']"
    r"|[^\W_][\w.+-]{0,63}@[\w-]+(?:\.[\w-]+)+(?<![_-])"
)


def to_whatsapp(markdown: str) -> str:
    """`markdown` in WhatsApp's own formatting, without citation markers, control characters or outer white space.

    Empty when nothing visible is left: the caller decides what an empty reply means.
    """
    text = clean(markdown)
    if len(text) > _LONGEST_MARKDOWN:
        return text
    tokens = _parser().parse(text)
    if any(token.level >= _DEEPEST - 2 for token in tokens):
        return text
    return clean(_Blocks().render(tokens))  # again: an entity like &#13; was none of these before it was decoded


def clean(text: str) -> str:
    """`text` as plain text that every store and service takes.

    No control characters but newline and tab, NUL and lone surrogates as U+FFFD, no OpenAI citation markers, at most
    one blank line in a row.
    """
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "\ufffd")
    text = _CONTROLS.sub("", _NEWLINES.sub("\n", _ANSI.sub("", text)))
    return _tidy(_STRAY_CITATION_MARKS.sub("", _CITATION.sub("", text)))


def _tidy(text: str) -> str:
    return _BLANK_LINES.sub("\n\n", _LINE_END.sub("", text)).strip()


class _Markdown(MarkdownIt):
    def normalizeLink(self, url: str) -> str:  # noqa: N802 (the library's name)
        return url  # a customer reads and taps the URL as it was written, not percent-encoded


@cache
def _parser() -> MarkdownIt:
    """CommonMark with tables and ~~strike~~, less what would eat or change the words of a chat message.

    Off: indented code (models indent for looks), HTML blocks (their tags are read inline), and link definitions
    (`[note]: tomorrow` would vanish).
    """
    markdown = _Markdown("commonmark", {"maxNesting": _DEEPEST})
    markdown.enable(["table", "strikethrough"]).disable(["code", "html_block", "reference"])
    markdown.inline.ruler.at("emphasis", _emphasis)
    markdown.inline.ruler.at("strikethrough", _strikethrough)
    markdown.parse("*")  # builds the rule lists now: they are filled in place, and threads share this parser
    return markdown


def _emphasis(state: StateInline, silent: bool) -> bool:
    """CommonMark's rule, except inside a URL, a number or a word: 2*3*4 is a sum, not italics."""
    marker = state.src[state.pos]
    if silent or marker not in "*_":
        return False
    run = state.scanDelims(state.pos, canSplitWord=True)
    end = state.pos + run.length
    if _is_verbatim(state) or _joins_words(state.src[state.pos - 1 : state.pos], state.src[end : end + 1], run.length):
        return _as_text(state, end)
    return commonmark_emphasis(state, silent)


def _strikethrough(state: StateInline, silent: bool) -> bool:
    if not silent and state.src[state.pos] == "~" and _is_verbatim(state):
        return _as_text(state, state.pos + state.scanDelims(state.pos, canSplitWord=True).length)
    return gfm_strikethrough(state, silent)


def _as_text(state: StateInline, end: int) -> bool:
    state.append_pending(state.src[state.pos : end])
    state.pos = end
    return True


def _is_verbatim(state: StateInline) -> bool:
    """Whether the parser stands inside a URL or an e-mail address; their places are looked up once per block."""
    if state.env.get("verbatim_src") is not state.src:
        state.env["verbatim_src"] = state.src
        state.env["verbatim"] = [match.span() for match in _VERBATIM.finditer(state.src)]
    spans: list[tuple[int, int]] = state.env["verbatim"]
    index = bisect_right(spans, (state.pos, len(state.src)))
    return index > 0 and state.pos < spans[index - 1][1]


def _joins_words(before: str, after: str, length: int) -> bool:
    """Whether `length` markers between two characters belong to a word or a sum.

    Not so in scripts without spaces (这是*重点*吧), nor for a doubled marker between letters (**Note**s).
    """
    if length > 1:
        return (before.isdigit() and after.isalnum()) or (before.isalnum() and after.isdigit())
    return before.isalnum() and after.isalnum() and unicodedata.east_asian_width(before) not in "WF"


@dataclass
class _Container:
    """A block that is being read, with the finished text of what is inside it."""

    kind: str
    blocks: list[str] = field(default_factory=list)
    #: What stands before a list item.
    marker: str = ""
    tight: bool = False
    #: The number that the next item of an ordered list has at least.
    number: int = 0
    rows: list[list[str]] = field(default_factory=list)
    after_heading: bool = False

    def add(self, text: str, *, heading: bool = False) -> None:
        if self.after_heading and self.blocks and text:
            self.blocks[-1] += "\n" + text  # a heading stands right above what it heads
        elif text:
            self.blocks.append(text)
        self.after_heading = heading and bool(text)

    def text(self) -> str:
        return ("\n" if self.tight else "\n\n").join(self.blocks)


class _Blocks:
    """Turns the parser's flat list of tokens into text, with a stack instead of recursion."""

    def __init__(self) -> None:
        self._stack = [_Container("root")]
        self._heading = False

    def render(self, tokens: Sequence[Token]) -> str:
        for token in tokens:
            self._take(token)
        return self._stack[0].text()

    def _take(self, token: Token) -> None:
        top = self._stack[-1]
        if token.type == "inline":
            self._inline(top, token)
        elif token.type == "fence":
            top.add(f"```{token.content.rstrip()}```" if token.content.strip() else "")
        elif token.type == "heading_open":
            # "Text\n---" makes a heading in Markdown, but in a chat it is a line with a rule under it.
            self._heading = token.markup != "-"
        elif token.type == "paragraph_open" and token.hidden:
            top.tight = True
        elif token.type in {"blockquote_open", "bullet_list_open", "ordered_list_open", "table_open"}:
            self._stack.append(_Container(token.type.removesuffix("_open")))
        elif token.type == "list_item_open":
            self._stack.append(_Container("item", marker=_item_marker(top, token), tight=top.tight))
        elif token.type == "tr_open":
            top.rows.append([])
        elif token.type in {"blockquote_close", "bullet_list_close", "ordered_list_close", "table_close"}:
            self._stack.pop()
            self._stack[-1].add(_finished(top))
        elif token.type == "list_item_close":
            self._stack.pop()
            parent = self._stack[-1]
            parent.tight = top.tight  # hidden paragraphs tell it, and only a list's items hold them
            parent.blocks.append(_item(top))

    def _inline(self, top: _Container, token: Token) -> None:
        if top.kind == "table":
            top.rows[-1].append(inline_text(token.children or []).replace("\n", " "))
            return
        top.add(inline_text(token.children or [], style=BOLD if self._heading else 0), heading=self._heading)
        self._heading = False


def _item_marker(parent: _Container, token: Token) -> str:
    if parent.kind == "bullet_list":
        return "-"
    # Models write 1. 1. 1. as well as 1. 2. 3.; either way the customer sees rising numbers.
    written = int(token.info) if token.info.isdecimal() else parent.number
    number = written if not parent.blocks else max(written, parent.number)
    parent.number = number + 1
    return f"{number}{token.markup}"


def _item(item: _Container) -> str:
    indent = " " * (len(item.marker) + 1)
    return f"{item.marker} " + item.text().replace("\n", f"\n{indent}")


def _finished(block: _Container) -> str:
    if block.kind == "table":
        return _table(block.rows)
    text = block.text()
    if block.kind == "blockquote" and text:
        return "> " + text.replace("\n", "\n> ")
    return text


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Lines that a phone's narrow screen shows well: `first: second` for two columns, else a small block per row."""
    header, body = rows[0], rows[1:]
    if len(header) <= 2:
        lines = [": ".join(cell for cell in row if cell) for row in body]
        title = ": ".join(cell.strip("*") for cell in header if cell)
        return "\n".join(line for line in [f"*{title}*" if title else "", *lines] if line)
    blocks = []
    for row in body:
        lines = [f"*{row[0].strip('*')}*" if row[0].strip("*") else ""]
        lines += [f"{name}: {cell}" if name else cell for name, cell in zip(header[1:], row[1:], strict=False) if cell]
        blocks.append("\n".join(line for line in lines if line))
    return "\n\n".join(blocks) if body else " | ".join(header)
