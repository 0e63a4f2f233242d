"""The layout's rules that can be counted: who imports whom, how long things are, what stands where."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "chatbotctl"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "versions" not in path.parts)

MOST_LINES = 400
MOST_FUNCTION_LINES = 60
#: The per-turn guard, the command line's main, the server's error handler.
BROAD_EXCEPTS = {"core/flow/worker.py", "commands/app.py", "server/app.py"}
DRAWERS = {"utils", "util", "helpers", "common", "misc"}
#: openai_transport is imported by openai_client once its first client is made, huey_queue by huey_wakeup on first use.
SDKS = {"openai", "twilio", "slack_sdk", "redis", "google", "huey", "bm25s", "prometheus_client"}
LOADS_AN_SDK_WHEN_IMPORTED = {"core/adapters/openai_transport.py", "core/adapters/huey_queue.py"}


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module


def at_import_time(module: ast.Module) -> Iterator[ast.AST]:
    """What runs when a module is imported: not what is inside functions, nor what only type checkers see."""
    waiting: list[ast.AST] = list(module.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


def test_the_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache", "--no-logo"], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_at_most_400_lines_long(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_function_is_at_most_60_lines_long(path: Path) -> None:
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {function: length for function, length in lengths.items() if length > MOST_FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_opens_with_a_docstring_unless_it_is_an_empty_init(path: Path) -> None:
    if path.name == "__init__.py" and path.parent != PACKAGE:
        assert path.read_text("utf-8") == ""
    else:
        assert ast.get_docstring(tree(path))


def test_no_module_is_a_drawer() -> None:
    assert [name(path) for path in MODULES if path.stem in DRAWERS] == []


def test_everything_is_caught_in_three_places_at_most() -> None:
    found = {
        name(path)
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
    }
    assert found <= BROAD_EXCEPTS


def test_no_sdk_is_loaded_before_it_is_needed() -> None:
    found = {
        name(path)
        for path in MODULES
        for node in at_import_time(tree(path))
        for module in imported(node)
        if module.partition(".")[0] in SDKS
    }
    assert found == LOADS_AN_SDK_WHEN_IMPORTED


def test_rich_is_imported_by_output_alone() -> None:
    found = {
        name(path)
        for path in MODULES
        for node in ast.walk(tree(path))
        for module in imported(node)
        if module.partition(".")[0] == "rich"
    }
    assert found == {"commands/output.py"}


def test_only_serve_worker_and_simulate_know_the_server() -> None:
    found = {
        name(path)
        for path in (PACKAGE / "commands").rglob("*.py")
        for node in ast.walk(tree(path))
        for module in imported(node)
        if module.startswith("chatbotctl.server")
    }
    assert found == {"commands/serve.py", "commands/simulate.py", "commands/worker.py"}


def test_the_pipeline_reads_as_a_table_of_contents() -> None:
    pipeline = PACKAGE / "core" / "flow" / "pipeline.py"
    assert len(pipeline.read_text("utf-8").splitlines()) <= 60
    steps = [module for node in ast.walk(tree(pipeline)) for module in imported(node) if ".flow." in module]
    assert len(steps) >= 6


def test_every_test_file_is_where_what_it_tests_is() -> None:
    """tests/unit mirrors the package."""
    unit = ROOT / "tests" / "unit"
    folders = {path.parent.relative_to(unit) for path in unit.rglob("test_*.py")}
    own = {Path("docs")}
    assert [folder for folder in folders - own if not (PACKAGE / folder).is_dir()] == []
