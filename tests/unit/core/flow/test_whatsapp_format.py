"""How a model's Markdown looks to a customer in WhatsApp."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbotctl.core.flow.whatsapp_format import clean, to_whatsapp

any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=300)
markup = st.sampled_from(
    ["*", "**", "_", "__", "~~", "`", "```\n", "# ", "- ", "1. ", "> ", "|", "\n|-|-|\n", "[a](b)", "![", "](", "<b>",
     "</b>", "<a href=x>", "<br>", "&amp;", "&#13;", "&#0;", "\\", "\n", "\n\n", "  ", "word", "7", "é", "\x1b[31m",
     "字", "\ud800", "\0", "\u202e", "【4:0†source】", "\ue200cite\ue202turn0search1\ue201", "---\n", "\t",
     "https://a.b/_c_*d*"]
)  # fmt: skip
hostile_text = st.lists(st.one_of(markup, st.text(max_size=4)), max_size=60).map("".join)


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("**bold** and __bold__", "*bold* and *bold*"),
        ("*it* and _it_", "_it_ and _it_"),
        ("~~gone~~", "~gone~"),
        ("`x = 1`", "`x = 1`"),
        ("***both***", "*_both_*"),
        ("**bold _both_ bold**", "*bold _both_ bold*"),
        ("** not bold **", "** not bold **"),
        ("**two\nlines**", "*two*\n*lines*"),
        ("**Note**s", "Notes"),
        ("这是**重点**。", "这是重点。"),
        ("（**重点**）", "（*重点*）"),
        ("**https://luna.example/**", "https://luna.example/"),
        ("a <b>bold</b> word<br>and <i>it</i>", "a *bold* word\nand _it_"),
        ("a <span style='x'>plain</span> word <!-- note -->", "a plain word"),
        ("Dear <your name>, 3 <4 and 5> 2, a <b and c> d", "Dear <your name>, 3 <4 and 5> 2, a <b and c> d"),
        ("caf&eacute; &amp; bar &lt;3", "café & bar <3"),
        (r"5 \* 3 \_ \# \[x\]", "5 * 3 _ # [x]"),
    ],
)
def test_words_keep_their_style(markdown: str, shown: str) -> None:
    assert to_whatsapp(markdown) == shown


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("# Hours\n\nWe open at 8.", "*Hours*\nWe open at 8."),
        ("## **Hours** of *today*", "*Hours of _today_*"),
        ("one\n\n\n\n\ntwo", "one\n\ntwo"),
        ("one\ntwo  \nthree", "one\ntwo\nthree"),
        ("one\n\n---\n\ntwo", "one\n\ntwo"),
        ("See you!\n---\nLuna", "See you!\n\nLuna"),
        ("* a\n* b\n  * c\n    + d", "- a\n- b\n  - c\n    - d"),
        ("1. a\n1. b\n1. c", "1. a\n2. b\n3. c"),
        ("3) a\n7) b", "3) a\n7) b"),
        ("1. a\n   - b\n2. c", "1. a\n   - b\n2. c"),
        ("> a\n> b\n\nc", "> a\n> b\n\nc"),
        ("```python\nif x:\n    y()\n```", "```if x:\n    y()```"),
        ("    indented text is text", "indented text is text"),
        ("[note]: tomorrow", "[note]: tomorrow"),
        ("| Item | Price |\n|--|--:|\n| Bun | **2** |\n| Tea | |", "*Item: Price*\nBun: *2*\nTea"),
        (
            "| Day | Open | Close |\n|-|-|-|\n| Mon | 8 | 18 |\n| Tue | 9 | |",
            "*Mon*\nOpen: 8\nClose: 18\n\n*Tue*\nOpen: 9",
        ),
        ("| a | b | c |\n|-|-|-|", "a | b | c"),
    ],
)
def test_blocks_become_lines_that_a_phone_shows_well(markdown: str, shown: str) -> None:
    assert to_whatsapp(markdown) == shown


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("[our menu](https://luna.example/menu)", "our menu (https://luna.example/menu)"),
        ("[https://luna.example](https://luna.example/)", "https://luna.example"),
        ("[luna.example](https://www.luna.example/)", "luna.example"),
        ("<https://luna.example/a_b>", "https://luna.example/a_b"),
        ("[](https://luna.example)", "https://luna.example"),
        ("[write us](mailto:hi@luna.example) or <hi@luna.example>", "write us (hi@luna.example) or hi@luna.example"),
        ("[the file](sandbox:/mnt/data/x.pdf) and [above](#top)", "the file and above"),
        ("[Straße](https://münchen.example/straße?a=ü)", "Straße (https://münchen.example/straße?a=ü)"),
        ("![a loaf](https://luna.example/loaf.jpg)", "a loaf (https://luna.example/loaf.jpg)"),
        ("**[menu](https://luna.example)**", "*menu (https://luna.example)*"),
        ('<a href="https://luna.example">here</a>', "here (https://luna.example)"),
    ],
)
def test_links_show_where_they_lead(markdown: str, shown: str) -> None:
    assert to_whatsapp(markdown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "snake_case and _leading and trailing_ and a__b__c",
        "2*3*4 = 24, 2**3**4, 5 * 6 * 7",
        "https://a.example/x_*y*_z?_a_=~~b~~&c=**d**",
        "john_doe_x@mail.example, a*b@mail.example",
        "+1 (555) 000-1111",
        "#hashtag and C# and item #5",
        "It costs $5* or $6*.",
        "¯_(ツ)_/¯",
        "Hi 👋 — “ok”… مرحبا, 你好【重要】",
        "- 5 degrees",
        "~approx~",
    ],
)
def test_plain_text_passes_unharmed(text: str) -> None:
    assert to_whatsapp(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "We open at 8【4:0†source】.",
        "We open at 8 【12†L1-L5】.",
        "We open at 8【4:0】.",
        "We open at 8 \ue200cite\ue202turn0file0\ue201.",
        "We open at 8 \ue200filecite\ue202turn0file0\ue202turn1file2\ue201.",
        "We open at 8 citeturn0file0turn0search1.",
        "We open at 8.\ue200cite\ue202turn0search3",
    ],
    ids=ascii,
)
def test_citation_markers_are_gone(text: str) -> None:
    assert to_whatsapp(text) == "We open at 8."


def test_control_characters_are_gone_and_broken_characters_replaced() -> None:
    assert to_whatsapp("\x1b[31mred\x1b[0m\x07 a\r\nb\x85c\x00 \ud800 \ud83d\ude00") == "red a\nb\nc\ufffd \ufffd 😀"
    assert to_whatsapp("tab\tstays,&#13;hidden return&#12;") == "tab\tstays,\nhidden return"


@pytest.mark.parametrize("empty", ["", "   ", "\n\n", "---", "<!-- only a note -->", "【4:0†source】", "\x07"])
def test_a_reply_without_anything_to_see_is_empty(empty: str) -> None:
    assert to_whatsapp(empty) == ""


@pytest.mark.parametrize(
    "text",
    [
        "> " * 500 + "deep",
        "".join("  " * level + "- x\n" for level in range(300)) + "deep",
        "*a " * 3000 + "deep" + " a*" * 3000,
        "[" * 5000 + "deep",
        "<b>" * 3000 + "deep",
        "**" * 5000 + "deep",
        "`a" * 5000 + "deep",
        "x" * 30_000 + " deep",
        "a" + "\u0308" * 10_000 + " deep",
    ],
    ids=["quotes", "lists", "emphasis", "brackets", "tags", "stars", "backticks", "too long to parse", "accents"],
)
def test_deep_and_long_texts_keep_their_words(text: str) -> None:
    assert "deep" in to_whatsapp(text)


@given(st.one_of(any_text, hostile_text))
def test_any_text_comes_out_clean(text: str) -> None:
    shown = to_whatsapp(text)
    assert shown == shown.strip()
    assert "\n\n\n" not in shown
    assert {char for char in shown if unicodedata.category(char) in {"Cc", "Cs"}} <= {"\n", "\t"}
    shown.encode()


@given(st.lists(st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True), min_size=1).map(" ".join), hostile_text)
def test_no_word_of_a_paragraph_is_lost(words: str, other: str) -> None:
    assert words in to_whatsapp(f"{words}\n\n```\n{other.replace('`', '')}\n```")


@given(any_text)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean(clean(text)) == clean(text)
