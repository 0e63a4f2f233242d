"""How a long reply reaches the customer: whole, in few messages, each cut where a reader would pause."""

from __future__ import annotations

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from chatbotctl.core.flow.split_reply import LIMIT, split

any_text = st.text(st.characters(codec=None, exclude_categories=()))
#: Text that is hostile to cutting: joined emoji, flags, accents on letters and on spaces, white space of all kinds.
pieces = st.sampled_from(
    ["word ", "a\u0308", " \u0308", "👩‍👩‍👧", "🇩🇪", "👍🏽", "\n", "\n\n", ". ", "。", "```", "x" * 30,
      "\xa0", "\x1f", "\u200d", "1. ", "\ud83d", "\u202e", "\0"]
)  # fmt: skip
hostile_text = st.lists(st.one_of(pieces, st.text(max_size=5)), max_size=120).map("".join)


def units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def visible(text: str) -> str:
    return "".join(text.split())


def test_a_short_reply_stays_one_message() -> None:
    assert split("Hello!\n\nWe open at 8.") == ["Hello!\n\nWe open at 8."]
    assert split("x" * LIMIT) == ["x" * LIMIT]


@pytest.mark.parametrize("blank", ["", " ", "\n\n \t"])
def test_a_blank_reply_gives_no_message(blank: str) -> None:
    assert split(blank) == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("First one here.\n\nSecond one.", ["First one here.", "Second one."]),
        ("First line here\nsecond line", ["First line here", "second line"]),
        ("A sentence, yes. Another one.", ["A sentence, yes.", "Another one."]),
        ("only some words without a stop", ["only some words", "without a stop"]),
        ("你好世界你好世界你好。再见朋友再见朋友再见", ["你好世界你好世界你好。", "再见朋友再见朋友再见"]),
        ("x" * 25, ["x" * 20, "x" * 5]),
    ],
    ids=["paragraphs", "lines", "sentences", "words", "Chinese sentences", "no boundary at all"],
)
def test_a_cut_is_made_at_the_best_boundary(text: str, parts: list[str]) -> None:
    assert split(text, 20) == parts


def test_a_part_may_be_full_up_to_the_space_that_ends_it() -> None:
    assert split("a" * 20 + " " + "b" * 5, 20) == ["a" * 20, "b" * 5]


def test_a_poor_paragraph_break_is_passed_over_for_a_fuller_message() -> None:
    assert split("Hi.\n\n" + "One sentence. " * 4, 40)[0] == "Hi.\n\nOne sentence. One sentence."


def test_a_list_items_sign_stays_with_its_text() -> None:
    parts = split("We bake these things\n1. bread and rolls", 24)
    assert parts == ["We bake these things", "1. bread and rolls"]
    assert split("Aaaa aaaa aaaa aaa\n- " + "b" * 20, 22) == ["Aaaa aaaa aaaa aaa", "- " + "b" * 20]


def test_a_url_is_not_cut_when_a_message_can_hold_it() -> None:
    url = "https://luna.example/" + "a" * 60
    assert split(f"See {url} for more", 90) == [f"See {url} for", "more"]
    assert split(f"Look at this: {url}", 90) == ["Look at this:", url]


def test_emoji_count_twice_and_are_never_cut() -> None:
    family = "👩‍👩‍👧"  # 8 UTF-16 units, one thing to the reader
    assert split(family * 5, 17) == [family * 2, family * 2, family]
    assert split("🇩🇪" * 4, 9) == ["🇩🇪" * 2, "🇩🇪" * 2]


def test_a_grapheme_longer_than_a_message_is_cut_inside() -> None:
    text = "a" + "\u0308" * 10_000
    parts = split(text)
    assert "".join(parts) == text
    assert len(parts) == 7


def test_code_that_spans_messages_is_closed_and_opened_again() -> None:
    code = "\n".join(f"    step {number}" for number in range(40))
    parts = split(f"Do this:\n\n```{code}```\nThat is all.", 100)
    assert len(parts) > 3
    assert all(part.count("```") % 2 == 0 for part in parts)
    assert all(units(part) <= 100 for part in parts)
    blocks = [block for part in parts for block in regex.findall("```(.*?)```", part, regex.DOTALL)]
    assert "\n".join(blocks) == code, "no line lost, doubled or moved"


def test_code_that_ends_at_a_cut_leaves_no_empty_fence_behind() -> None:
    parts = split("```" + "a" * 92 + "\n```\n" + "word " * 15, 100)
    assert parts[0] == "```" + "a" * 92 + "```"
    assert "```" not in parts[1]


@given(st.one_of(any_text, hostile_text), st.integers(2, 80))
@example("𐀀\x1f0", 2)
@example("ab\xa0\xa0\xa0cd", 2)
def test_nothing_is_lost_and_no_part_is_too_long(text: str, limit: int) -> None:
    parts = split(text, limit)
    assert all(part.strip() for part in parts)
    assert all(units(part) <= limit for part in parts)
    shown = visible("".join(parts))
    assert shown.replace("`", "") == visible(text).replace("`", "")
    assert shown == visible(text) or "```" in text


@given(hostile_text.filter(lambda text: "```" not in text), st.integers(16, 80))
def test_graphemes_that_fit_stay_whole(text: str, limit: int) -> None:
    parts = split(text, limit)
    wanted = [one for one in regex.findall(r"\X", text.strip()) if one.strip()]
    if all(units(one) <= limit for one in wanted):
        assert [one for part in parts for one in regex.findall(r"\X", part) if one.strip()] == wanted


def test_prose_fills_its_messages_well() -> None:
    text = "The quick brown fox jumps over the lazy dog, as it does every day. " * 400
    assert len(split(text)) <= units(text) / LIMIT * 1.06 + 1


@pytest.mark.parametrize(
    "text",
    [
        "a\n" * 100_000,
        " \u0308" * 100_000,
        "." + '"' * 200_000,
        "🇩🇪" * 25_000,
        "- " * 100_000,
        "```" * 60_000,
        "你" * 200_000,
    ],
    ids=["lines", "accents on spaces", "quotes", "flags", "list signs", "fences", "Chinese"],
)
def test_a_huge_text_is_cut_without_growing_slow(text: str) -> None:
    # The test's own timeout is the bar: what takes time with the square of the length takes minutes here.
    parts = split(text)
    assert len(parts) < units(text) / LIMIT * 2 + 2


def test_a_limit_without_room_for_one_character_is_an_error() -> None:
    with pytest.raises(ValueError, match="room"):
        split("text", 1)
