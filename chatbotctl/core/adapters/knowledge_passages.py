"""Cuts a business's knowledge files into passages: a question with its answer, or a headed piece of text.

Called by knowledge_base.py when it builds an index. Reads Markdown and plain text by lines: any text gives passages,
none an error. Knows nothing of ranking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: Characters; a longer section becomes several passages, so that an answer stays readable on a phone.
LONGEST_BODY = 1200
_LONGEST_QUESTION = 200

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_FENCE = re.compile(r"\s{0,3}(```|~~~)")
_HEADING = re.compile(r"\s{0,3}(#{1,6})[ \t]+(.*?)[ \t#]*")
_UNDERLINE = re.compile(r"\s{0,3}(?:={3,}|-{3,})\s*")
_RULE = re.compile(r"\s{0,3}(?:[-*_][ \t]*){3,}")
_EMPHASIS = re.compile(r"[*_]{1,3}(?=\S)(.+?)(?<=\S)[*_]{1,3}")
#: "Q: Do you deliver?", also bold, numbered, and in some languages that knowledge files come in.
_MARKED_QUESTION = re.compile(
    r"\W{0,4}(?:Q|Question|Frage|Pregunta|Pergunta|Domanda|Vraag|问|問)\s?\d{0,3}\s?[:：.)]\W{0,3}\s*(?P<text>\S.*)",
    re.IGNORECASE,
)
_MARKED_ANSWER = re.compile(
    r"\W{0,4}(?:A|Answer|Antwort|Réponse|Respuesta|Resposta|Risposta|Antwoord|答)\s?\d{0,3}\s?[:：]\*{0,2}\s*",
    re.IGNORECASE,
)
#: A line of its own that asks: "**Do you deliver?**", "Do you deliver?", "2. Do you deliver?".
_ASKING_LINE = re.compile(r"\s{0,3}(?:\d{1,3}[.)]\s+)?(?P<text>\S.*[?？؟])[*_]{0,3}\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One thing that a business wants its customers to know."""

    #: What it answers: the questions of an FAQ entry (several may share one answer), or the heading; may be empty.
    titles: tuple[str, ...]
    #: The headings above it, outermost first.
    path: tuple[str, ...]
    #: The answer itself, Markdown, without headings; never blank.
    body: str


def passages_in(text: str) -> list[Passage]:
    """The passages of one file, in its order. Anything may stand in `text`."""
    text = re.sub(r"\r\n?|[\v\f\x85\u2028\u2029]", "\n", text.removeprefix("\ufeff").replace("\0", ""))
    found: list[Passage] = []
    for path, lines in _sections(_FRONT_MATTER.sub("", text).split("\n")):
        found.extend(_passages_of_section(path, lines))
    return found


def _sections(lines: Iterable[str]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """The text between headings, each piece with the headings it stands under; fenced code hides headings."""
    headings: list[tuple[int, str]] = []
    body: list[str] = []
    in_fence = False
    for line in lines:
        if _FENCE.match(line):
            in_fence = not in_fence
        heading = None if in_fence else _HEADING.fullmatch(line)
        underlined = not in_fence and _UNDERLINE.fullmatch(line) and body and _stands_alone(body)
        if heading is None and not underlined:
            body.append(line)
            continue
        if heading is not None:
            level, title = len(heading[1]), heading[2]
        else:
            level, title = (1 if "=" in line else 2), body.pop()
        yield tuple(title for _, title in headings), body
        headings = [(above, name) for above, name in headings if above < level]
        if _plain(title):
            headings.append((level, _plain(title)))
        body = []
    yield tuple(title for _, title in headings), body


def _stands_alone(body: list[str]) -> bool:
    """Whether the last line is a short line after a blank one: only then a rule under it makes it a heading."""
    line = body[-1].strip()
    return bool(line) and len(line) <= 80 and line[-1] not in ".!:,;" and (len(body) == 1 or not body[-2].strip())


def _passages_of_section(path: tuple[str, ...], lines: list[str]) -> Iterator[Passage]:
    """A section's own text under its heading, then its questions with their answers."""
    own: list[str] = []
    questions: list[str] = []
    answer: list[str] = []
    answered: list[Passage] = []
    lines = [line for line in lines if not _RULE.fullmatch(line)]
    for index, line in enumerate(lines):
        question = _question(line, starts_paragraph=index == 0 or not lines[index - 1].strip())
        if question is None:
            target = answer if questions else own
            target.append(line)
        elif not questions or _text(answer):
            answered += _answered(questions, path, answer)
            questions, answer = [question], []
        else:
            questions.append(question)
    if questions and not _text(answer):  # "Any questions?" with nothing behind it is a plain line
        own.extend(questions)
    answered += _answered(questions, path, answer)
    titles, above = (path[-1:], path[:-1]) if path else ((), ())
    yield from (Passage(titles=titles, path=above, body=body) for body in _bodies(own, whole=bool(path)))
    yield from answered


def _question(line: str, *, starts_paragraph: bool) -> str | None:
    marked = _MARKED_QUESTION.fullmatch(line)
    asking = _ASKING_LINE.fullmatch(line) if starts_paragraph else None
    match = marked or asking
    if match is None or len(line) > _LONGEST_QUESTION:
        return None
    return _plain(match["text"]) or None


def _answered(questions: list[str], path: tuple[str, ...], lines: list[str]) -> list[Passage]:
    text = _text(lines)
    marked = _MARKED_ANSWER.match(text)
    body = text[marked.end() :].strip() if marked else text
    return [Passage(titles=tuple(questions), path=path, body=body)] if questions and body else []


def _bodies(lines: list[str], *, whole: bool) -> Iterator[str]:
    """The text in readable sizes: `whole` keeps paragraphs together as far as they fit, else each is one."""
    current = ""
    for paragraph in re.split(r"\n[ \t]*\n", _text(lines)):
        piece = paragraph.strip("\n")
        if not piece.strip():
            continue
        joins = whole or current.endswith(":")  # "We offer:" belongs to the list under it
        if current and (not joins or len(current) + len(piece) > LONGEST_BODY):
            yield current
            current = ""
        current = f"{current}\n\n{piece}" if current else piece
    if current:
        yield current


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines).strip()


def _plain(title: str) -> str:
    """A heading or question without emphasis and outer signs."""
    return re.sub(r"\s+", " ", _EMPHASIS.sub(r"\1", title)).strip(" *_")
