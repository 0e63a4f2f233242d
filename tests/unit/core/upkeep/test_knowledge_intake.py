"""Files that an operator gives a business to know: what they are called, and which are refused in what words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chatbotctl.core.errors import NotFoundError, RefusedError
from chatbotctl.core.records.business import Backend
from chatbotctl.core.upkeep import knowledge_intake
from chatbotctl.core.upkeep.knowledge_intake import LARGEST

OFFLINE = Backend.KNOWLEDGE


def _write(path: Path, content: bytes = b"Nine to five.") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_is_named_as_it_is_called(tmp_path: Path) -> None:
    file = _write(tmp_path / "deep" / "faq.md")
    assert knowledge_intake.read([file], OFFLINE) == {"faq.md": b"Nine to five."}


def test_a_folder_gives_its_text_files_by_their_path_and_nothing_hidden(tmp_path: Path) -> None:
    folder = tmp_path / "knowledge"
    for name in ("faq.md", "shipping/FAQ.TXT", "notes.markdown"):
        _write(folder / name)
    for name in (".draft.md", ".git/readme.md", "logo.png", "menu.pdf"):
        _write(folder / name)
    (folder / "folder.md").mkdir()
    assert list(knowledge_intake.read([folder], Backend.OPENAI)) == ["faq.md", "notes.markdown", "shipping/FAQ.TXT"]


def test_a_folder_inside_a_hidden_one_is_read_when_it_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "knowledge"
    _write(folder / "faq.md")
    assert list(knowledge_intake.read([folder], OFFLINE)) == ["faq.md"]


def test_the_mark_that_some_editors_put_in_front_is_left_out(tmp_path: Path) -> None:
    file = _write(tmp_path / "faq.md", "\ufeffÖffnungszeiten".encode())
    assert knowledge_intake.read([file], OFFLINE) == {"faq.md": "Öffnungszeiten".encode()}


def test_a_decomposed_name_of_a_mac_is_composed(tmp_path: Path) -> None:
    file = _write(tmp_path / "o\u0308ffnung.md")
    assert list(knowledge_intake.read([file], OFFLINE)) == ["öffnung.md"]


def test_other_kinds_of_files_are_kept_for_openai_as_they_are(tmp_path: Path) -> None:
    file = _write(tmp_path / "menu.PDF", b"%PDF-1.7\xff\x00")
    assert knowledge_intake.read([file], Backend.OPENAI) == {"menu.PDF": b"%PDF-1.7\xff\x00"}


def test_the_largest_file_is_taken_and_one_byte_more_is_not(tmp_path: Path) -> None:
    file = _write(tmp_path / "faq.md", b"a" * LARGEST)
    assert len(knowledge_intake.read([file], OFFLINE)["faq.md"]) == LARGEST
    _write(file, b"a" * (LARGEST + 1))
    with pytest.raises(RefusedError, match=r"faq\.md is larger than 5 MB"):
        knowledge_intake.read([file], OFFLINE)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("faq.md", b"caf\xe9", "is not a UTF-8 text"),
        ("faq.md", "Hours".encode("utf-16"), "is not a UTF-8 text"),
        ("faq.md", b"Hours\0", "has NUL characters"),
        ("faq.md", b"", "is empty"),
        ("faq.md", b" \n\t", "is empty"),
        ("menu.pdf", b"%PDF", "is of a kind that the backend knowledge does not read"),
        ("faq", b"Hours", "is of a kind that the backend knowledge does not read"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    file = _write(tmp_path / name, content)
    with pytest.raises(RefusedError) as caught:
        knowledge_intake.read([file], OFFLINE)
    assert f"{file} {words}" in caught.value.message
    assert caught.value.hint


def test_a_kind_that_nobody_reads_is_refused_for_openai_too(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"does not read") as caught:
        knowledge_intake.read([_write(tmp_path / "logo.png")], Backend.OPENAI)
    assert ".pdf" in (caught.value.hint or "")


def test_a_path_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no file"):
        knowledge_intake.read([tmp_path / "nothing.md"], OFFLINE)


def test_a_folder_without_text_says_so(tmp_path: Path) -> None:
    _write(tmp_path / "folder" / "logo.png")
    with pytest.raises(RefusedError, match=r"has no files that end in \.md, \.markdown or \.txt"):
        knowledge_intake.read([tmp_path / "folder"], OFFLINE)


def test_two_files_of_one_name_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    one, two = _write(tmp_path / "a" / "faq.md"), _write(tmp_path / "b" / "faq.md")
    with pytest.raises(RefusedError, match=r"Two of the files are called faq\.md"):
        knowledge_intake.read([one, two], OFFLINE)
    assert list(knowledge_intake.read([tmp_path], OFFLINE)) == ["a/faq.md", "b/faq.md"]


@pytest.mark.parametrize("name", [b"bad\xff.md", b"line\nbreak.md", b"\x1b[31m.md"])
def test_a_name_that_no_terminal_should_see_is_refused_without_showing_it(tmp_path: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    try:
        path.write_bytes(b"Hours")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(RefusedError, match="name is not usable") as caught:
        knowledge_intake.read([path], OFFLINE)
    assert caught.value.message.isprintable()


def test_a_name_that_the_operating_system_cannot_have_is_refused() -> None:
    with pytest.raises(RefusedError):
        knowledge_intake.read([Path("a\0.md")], OFFLINE)
