"""Files that an operator named: read up to a limit, and what is wrong with the others said in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatbotctl.core.errors import NotFoundError, RefusedError
from chatbotctl.core.upkeep.operator_file import read_at_most


def test_no_more_is_read_than_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "faq.md"
    file.write_bytes(b"Hours: 7 to 6")
    assert read_at_most(file, 5) == b"Hours"
    assert read_at_most(file, 100) == b"Hours: 7 to 6"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"There is no file .*nothing\.md\.") as caught:
        read_at_most(tmp_path / "nothing.md", 5)
    assert "Check the path" in str(caught.value.hint)


def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="cannot be read: Is a directory"):
        read_at_most(tmp_path, 5)
    with pytest.raises(RefusedError, match="that is no file name"):
        read_at_most(Path("a\0.md"), 5)
