"""Reads the files that an operator gives a business to know: which there are, what they are called, whether they fit.

Called by `business knowledge add`. Everything is read and checked before anything is stored.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from chatbotctl.core.errors import RefusedError
from chatbotctl.core.records.business import Backend
from chatbotctl.core.storage.knowledge import TEXT_SUFFIXES
from chatbotctl.core.upkeep.operator_file import read_at_most

#: Bytes of one file: a book has about one million; a provider's limit is far above.
LARGEST = 5 * 1024 * 1024
#: Characters, as the column has them (storage/schema.py).
LONGEST_NAME = 200
#: Suffixes that OpenAI's file search reads beside TEXT_SUFFIXES: its documentation's list, without program code.
PROVIDER_SUFFIXES = (".doc", ".docx", ".html", ".json", ".pdf", ".pptx", ".tex")


def read(paths: Sequence[Path], backend: Backend) -> dict[str, bytes]:
    """The files at these paths: name -> content.

    A folder gives all its text files, those of its folders included and hidden ones not, named by their path in it
    (`shipping/faq.md`); a file is named as it is called.

    Raises NotFoundError for a path that is not there; RefusedError, naming the file, for one that cannot be read, is
    empty, too large, of a kind that the backend does not read, or no UTF-8 though it should be text, and for two files
    of one name.
    """
    found: dict[str, bytes] = {}
    for path in paths:
        for name, file in _files(path):
            if name in found:
                raise RefusedError(
                    f"Two of the files are called {name}: the second would replace the first.",
                    hint="Rename one, or give the folder that holds both: names then begin with their folder.",
                )
            found[name] = _content(file, backend)
    return found


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """The files at `path` with their names."""
    if not path.is_dir():
        yield _name(PurePosixPath(path.name)), path
        return
    found = False
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        hidden = any(part.startswith(".") for part in inside.parts)
        if not hidden and file.suffix.lower() in TEXT_SUFFIXES and file.is_file():
            found = True
            yield _name(PurePosixPath(*inside.parts)), file
    if not found:
        raise RefusedError(
            f"The folder {path} has no files that end in {_listing(TEXT_SUFFIXES)}.",
            hint="Add files of other kinds by name.",
        )


def _name(path: PurePosixPath) -> str:
    """The file's name, composed (NFC): a Mac's file system gives it decomposed, and nobody types it so."""
    name = unicodedata.normalize("NFC", str(path))
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise RefusedError(
            f"A file's name is not usable: {name[:60]!a}.",
            hint=f"Give it a name of up to {LONGEST_NAME} printable characters.",
        )
    return name


def _content(file: Path, backend: Backend) -> bytes:
    suffix = file.suffix.lower()
    allowed = TEXT_SUFFIXES + PROVIDER_SUFFIXES if backend is Backend.OPENAI else TEXT_SUFFIXES
    content = read_at_most(file, LARGEST + 1)
    if suffix not in allowed:
        raise RefusedError(
            f"{file} is of a kind that the backend {backend.value} does not read.",
            hint=f"Give it files that end in {_listing(allowed)}.",
        )
    if len(content) > LARGEST:
        raise RefusedError(f"{file} is larger than {LARGEST // 1024**2} MB.", hint="Split it into several files.")
    if suffix in TEXT_SUFFIXES:
        content = _text(file, content)
    if not content.strip():
        raise RefusedError(f"{file} is empty.", hint="Write something into it, or leave it out.")
    return content


def _text(file: Path, content: bytes) -> bytes:
    """The text's bytes, without the mark that some editors put in front."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise RefusedError(f"{file} is not a UTF-8 text.", hint="Save it as UTF-8.") from exc
    if "\0" in text:
        raise RefusedError(f"{file} has NUL characters in it: it is no text.", hint="Save it as UTF-8 text.")
    return text.encode()


def _listing(suffixes: Sequence[str]) -> str:
    return f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
