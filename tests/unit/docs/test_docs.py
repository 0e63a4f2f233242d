"""The documentation says what the code does: settings, errors, commands and every link."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from chatbotctl.core import errors
from chatbotctl.core.config import PLAIN_NAMES, PREFIX
from chatbotctl.core.errors import ChatbotError
from chatbotctl.core.metrics import FIGURES
from chatbotctl.core.setting_values import Language, SlackApi, WebAddress
from chatbotctl.core.settings import Settings
from chatbotctl.core.upkeep.database_findings import KINDS
from chatbotctl.core.upkeep.repair_database import LEFT_BEHIND, RESTORED

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

FIELDS: dict[str, FieldInfo] = {
    f"{section}.{key}": field
    for section, model in Settings.model_fields.items()
    for key, field in model.annotation.model_fields.items()  # type: ignore[union-attr]
}


def read(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


# --- settings.md


def kind(field: FieldInfo) -> str:
    """A setting's type as the page words it."""
    choices = [choice for choice in (field.annotation, *get_args(field.annotation)) if choice is not type(None)]
    if any(get_origin(choice) is Literal for choice in choices):
        names = [f"`{name}`" for name in get_args(field.annotation)]
        return f"{', '.join(names[:-1])} or {names[-1]}"
    words = {
        bool: "true or false",
        int: "whole number",
        float: "number",
        str: "text",
        WebAddress: "web address",
        SlackApi: "web address",
        Language: "language tag",
        SecretStr: "secret",
        Path: "path",
        tuple[str, ...]: "list of texts",
    }
    word = next(words[choice] for choice in choices if choice in words)
    return f"{word}{limits(field)}"


def limits(field: FieldInfo) -> str:
    least = next((limit.ge for limit in field.metadata if isinstance(limit, Ge)), None)
    above = next((limit.gt for limit in field.metadata if isinstance(limit, Gt)), None)
    most = next((limit.le for limit in field.metadata if isinstance(limit, Le)), None)
    if least is not None:
        return f" from {least} to {most}" if most is not None else f" of at least {least}"
    if above is not None:
        return f" of more than {above}, up to {most}" if most is not None else f" of more than {above}"
    assert most is None, "no words for an upper limit alone"
    return ""


def default(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (int, float)):
        return f"`{value:g}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{list(value)}`"  # type: ignore[call-overload]


def names(setting: str) -> str:
    """A setting's names in the environment: our own, then its vendor's."""
    section, key = setting.split(".")
    plain = [name for name, target in PLAIN_NAMES.items() if target == (section, key)]
    known = ", ".join(f"`{name}`" for name in [f"{PREFIX}{section}__{key}".upper(), *plain])
    return f"{known}, or `REDIS_HOST` with `REDIS_PORT`" if setting == "redis.url" else known


def facts_in_settings_page() -> dict[str, str]:
    return dict(re.findall(r"^### `([^`]+)`\n\n([^\n]+)\n\n(?=\S)", read("docs/settings.md"), re.MULTILINE))


def test_every_setting_is_explained_once_and_none_that_there_is_not() -> None:
    headings = re.findall(r"^### `(.*)`$", read("docs/settings.md"), re.MULTILINE)
    assert headings == list(FIELDS)


@pytest.mark.parametrize("setting", FIELDS)
def test_a_setting_is_explained_with_its_type_limits_default_and_names(setting: str) -> None:
    field = FIELDS[setting]
    expected = f"{kind(field)} · default {default(field.default)} · {names(setting)}"
    assert facts_in_settings_page()[setting] == expected


def test_every_section_of_settings_has_its_heading() -> None:
    headings = re.findall(r"^## (.*)$", read("docs/settings.md"), re.MULTILINE)
    assert headings[-len(Settings.model_fields) :] == list(Settings.model_fields)


# --- errors.md


def tree(error: type[ChatbotError] = ChatbotError) -> Iterator[type[ChatbotError]]:
    yield error
    for below in error.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below)


def table(page: str, first_column: str) -> list[list[str]]:
    """The cells of the table whose first column is headed `first_column`, row by row."""
    rows = read(page).partition(f"\n| {first_column} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def http_statuses() -> Mapping[str, int]:
    from chatbotctl.server import answers

    return {error.code: answers.for_error(error()).status for error in tree()}


def test_every_error_is_explained_with_its_http_status_and_exit_code() -> None:
    statuses = http_statuses()
    explained = [tuple(row[:3]) for row in table("docs/errors.md", "Code")]
    assert explained == [(f"`{error.code}`", str(statuses[error.code]), str(error.exit_code)) for error in tree()]


def test_every_explained_error_says_what_it_means_and_what_to_do() -> None:
    for code, _, _, meaning, what_to_do in table("docs/errors.md", "Code"):
        assert meaning, code
        assert what_to_do, code


def test_the_tree_of_errors_in_the_code_shows_every_error() -> None:
    shown = re.findall(r"(\w+) +([a-z_]+) +(\d)$", errors.__doc__ or "", re.MULTILINE)
    assert shown == [(error.__name__, error.code, str(error.exit_code)) for error in tree()]


def test_every_log_event_that_the_page_sends_its_reader_to_is_logged() -> None:
    package = "".join(path.read_text("utf-8") for path in (ROOT / "chatbotctl").rglob("*.py"))
    named = [
        name
        for names in re.findall(r"log's ((?:`[a-z_]+`(?: or )?)+)", read("docs/errors.md"))
        for name in re.findall(r"[a-z_]+_[a-z_]+", names)
    ]
    assert len(named) >= 7
    assert [name for name in named if f'event("{name}"' not in package] == []


def test_every_exit_code_is_explained() -> None:
    explained = [int(row[0]) for row in table("docs/errors.md", "Exit code")]
    assert explained == [0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 143]
    assert {error.exit_code for error in tree()} <= set(explained)


# --- monitoring.md


def test_every_figure_is_explained_as_its_page_explains_it_to_prometheus() -> None:
    explained = [tuple(row) for row in table("docs/monitoring.md", "Figure")]
    assert explained == [
        (f"`{figure.name}`", figure.kind, ", ".join(f"`{label}`" for label in figure.labels), figure.help)
        for figure in FIGURES
    ]


def test_alerts_ask_for_figures_and_labels_that_there_are() -> None:
    series = {
        f"{figure.name}{suffix}": {*figure.labels, "le"}
        for figure in FIGURES
        for suffix in (("_bucket", "_count", "_sum") if figure.kind == "histogram" else ("",))
    }
    rules = "\n".join(parted(ROOT / "docs" / "monitoring.md")[1])
    asked = re.findall(r"(chatbotctl_[a-z_]+)(?:\{(\w+)!?[=~])?", rules)
    assert len(asked) >= 12
    assert [name for name, label in asked if name not in series or (label and label not in series[name])] == []


# --- database.md


def test_every_finding_of_a_database_check_is_explained_in_its_own_words() -> None:
    explained = [tuple(row) for row in table("docs/database.md", "Finding")]
    assert explained == [
        (f"`{code}`", kind.problem, f"Mended. {kind.remedy}" if kind.remedy else kind.advice)
        for code, kind in KINDS.items()
    ]


def test_every_code_of_a_dead_letter_that_upkeep_makes_is_explained() -> None:
    explained = [row[0] for row in table("docs/errors.md", "Dead letter's code")]
    assert explained == [f"`{why.code}`" for why in (LEFT_BEHIND, RESTORED)]


# --- cli.md


def test_the_page_of_commands_is_what_the_commands_say_of_themselves() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/generate_cli_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- README.md and links


@pytest.mark.parametrize("command", ["make run", "make test"])
def test_the_readme_shows_the_command_on_a_line_of_its_own(command: str) -> None:
    assert re.search(rf"^ *{command}$", read("README.md"), re.MULTILINE)


def parted(page: Path) -> tuple[str, list[str]]:
    """A page's prose, and its blocks of code."""
    prose, *rest = re.split(r"^ *```\w*\n", page.read_text("utf-8"), flags=re.MULTILINE)
    return prose + "".join(rest[1::2]), rest[::2]


def links(page: Path) -> Iterator[str]:
    """Where a page's links lead, code aside."""
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", parted(page)[0])):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_pages_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        leads_to = (page.parent / path).resolve() if path else page
        if not leads_to.exists() or (anchor and anchor not in anchors(leads_to)):
            broken.append(target)
    assert broken == []


def test_there_are_links_to_look_at() -> None:
    assert sum(1 for page in PAGES for _ in links(page)) > 20


def test_no_document_names_a_setting_that_there_is_not() -> None:
    """In prose `section.key` in backticks is a setting; a file's name is not."""
    sections = "|".join(Settings.model_fields)
    unknown = {
        (page.name, found)
        for page in PAGES
        for found in re.findall(rf"`((?:{sections})\.[a-z_]+)\b", page.read_text("utf-8"))
        if found not in FIELDS and not found.endswith((".py", ".md"))
    }
    assert unknown == set()


def code(page: Path) -> Iterator[str]:
    """What a page shows as code: each line of a block, each span in a line."""
    prose, blocks = parted(page)
    for block in blocks:
        yield from block.splitlines()
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))


def test_no_document_shows_a_command_that_there_is_not() -> None:
    known = set(re.findall(r"^## chatbotctl ?(.*)$", read("docs/cli.md"), re.MULTILINE))
    groups = {name for name in known if any(other.startswith(f"{name} ") for other in known)}
    unknown = set()
    for page in PAGES:
        for line in code(page):
            for words in re.findall(r"\bchatbotctl ((?:[a-z]+(?: |$))+)", line):
                shown = words.split()
                beginnings = {" ".join(shown[:count]) for count in range(1, len(shown) + 1)}
                if not beginnings & (known - groups) and " ".join(shown) not in groups:
                    unknown.add((page.name, words))
    assert unknown == set()
