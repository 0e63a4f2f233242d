"""The benchmarks still run: each with the smallest counts, as a person would start it. No figure is judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _benchmarks(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def _reports(finished: subprocess.CompletedProcess[str], name: str) -> list[dict[str, Any]]:
    assert finished.returncode == 0, finished.stderr
    reports: list[dict[str, Any]] = json.loads(finished.stdout)[name]
    for report in reports:
        for figure in report["figures"]:
            assert figure["ours"] > 0
            if figure["bare"] is not None:
                assert figure["ratio"] == pytest.approx(figure["ours"] / figure["bare"])
    return reports


def test_startup_is_compared_with_a_hello_world_app() -> None:
    [report] = _reports(_benchmarks("startup", "--runs", "1", "--json"), "startup")
    assert [figure["unit"] for figure in report["figures"]] == ["ms", "ms"]


def test_a_rebuild_is_compared_with_a_bare_loop_in_rate_and_memory(redis_url: str) -> None:
    finished = _benchmarks("rebuild", "--conversations", "2500", "--rounds", "1", "--json", TEST_REDIS_URL=redis_url)
    [report] = _reports(finished, "rebuild")
    assert [figure["unit"] for figure in report["figures"]] == ["conversations/s", "conversations/s", "s", "MB"]


@pytest.mark.parametrize("name", ["accepting", "replying", "waking"])
def test_the_message_path_is_measured_on_both_stores(postgres_server: str, name: str) -> None:
    few = ("--messages", "20", "--connections", "2", "--rounds", "1")
    reports = _reports(_benchmarks(name, *few, "--json", TEST_DATABASE_URL=postgres_server), name)
    stores = [store for report in reports for store in ("SQLite", "PostgreSQL") if store in report["title"]]
    assert stores == ["SQLite", "PostgreSQL"]


def test_growth_is_compared_with_an_empty_database_on_both_stores(postgres_server: str) -> None:
    finished = _benchmarks("growth", "--sizes", "500", "--rounds", "1", "--json", TEST_DATABASE_URL=postgres_server)
    for report in _reports(finished, "growth"):
        assert [figure["name"] for figure in report["figures"]] == [
            "taking, 500 messages, p50",
            "claiming, 500 messages, p50",
        ]


def test_people_get_a_table() -> None:
    finished = _benchmarks("startup", "--runs", "1")
    title, bare, _, head, *rows = finished.stdout.strip().splitlines()
    assert (title, bare) == ("startup: chatbotctl --help", "bare: a hello-world Typer app's --help")
    assert head.split() == ["ours", "bare", "ratio"]
    assert [len(row) for row in rows] == [len(head)] * 2


def test_an_unknown_benchmark_is_a_usage_error_that_names_those_that_there_are() -> None:
    finished = _benchmarks("speed")
    assert finished.returncode == 2
    assert "startup, rebuild, accepting" in finished.stderr
