"""`cache rebuild|verify|show` as an operator and a script see them; integration/test_cache_rebuild has the rest."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from chatbotctl.core.storage import conversations
from tests import installs
from tests.cli import chatbotctl
from tests.unit.commands import business_site as site

LUNA, NOVA = "whatsapp:+15550001111", "whatsapp:+15550002222"
ANA = "whatsapp:+5511987654321"
KEY = f"{ANA}_{LUNA}"
UNKNOWN = f"whatsapp:+15557650000_{LUNA}"


@pytest.fixture(autouse=True)
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str) -> None:
    """A business with one thread in the database, and an empty Redis."""
    site.set_up(monkeypatch, tmp_path)
    site.add("luna", number=LUNA)
    with site.core() as core:
        thread = installs.take_in(core, sender=ANA, receiver=LUNA).conversation_id
        with core.database.write() as tx:
            conversations.set_ai_thread(tx, thread, "conv_1")
    monkeypatch.setenv("REDIS_URL", redis_url)


@pytest.fixture
def operator(redis_url: str) -> Iterator[redis.Redis]:
    """A person with redis-cli."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def put(operator: redis.Redis, key: str, thread: str = "conv_1") -> None:
    sender, _, receiver = key.partition("_")
    operator.hset(key, mapping={"from": sender, "to": receiver, "thread_id": thread})


# rebuild


def test_rebuild_json_has_the_keys_that_scripts_rely_on(operator: redis.Redis) -> None:
    put(operator, UNKNOWN)
    run = chatbotctl("cache", "rebuild", "--json")
    assert run.code == 0
    assert list(run.json) == ["written", "removed", "seconds"]
    assert (run.json["written"], run.json["removed"]) == (1, 1)
    assert run.json["seconds"] > 0
    assert operator.keys() == [KEY]
    assert operator.hgetall(KEY) == {"from": ANA, "to": LUNA, "thread_id": "conv_1"}


def test_rebuild_tells_people_what_it_did_and_can_be_run_again(operator: redis.Redis) -> None:
    put(operator, UNKNOWN)
    assert chatbotctl("cache", "rebuild").out.startswith("Wrote 1 entry and removed 1 in ")
    assert chatbotctl("cache", "rebuild").out.startswith("Wrote 1 entry and removed 0 in ")


def test_dry_run_says_what_would_be_done_and_does_nothing(operator: redis.Redis) -> None:
    put(operator, UNKNOWN)
    assert chatbotctl("cache", "rebuild", "--dry-run").out == "Would write 1 entry and remove 1.\n"
    run = chatbotctl("cache", "rebuild", "--dry-run", "--json")
    assert (run.json["written"], run.json["removed"], run.json["dry_run"]) == (1, 1, True)
    assert operator.keys() == [UNKNOWN]


# verify


def test_verify_says_that_all_is_well(operator: redis.Redis) -> None:
    put(operator, KEY)
    run = chatbotctl("cache", "verify")
    assert (run.code, run.out) == (0, "The cache holds what the database knows, and nothing else.\n")
    assert chatbotctl("cache", "verify", "--json").json == {"missing": 0, "stale": 0, "different": 0}


def test_verify_json_counts_and_ends_with_8(operator: redis.Redis) -> None:
    put(operator, UNKNOWN)
    run = chatbotctl("cache", "verify", "--json")
    assert run.code == 8
    assert run.json == {"missing": 1, "stale": 1, "different": 0}
    put(operator, KEY, "conv_other")
    assert chatbotctl("cache", "verify", "--json").json == {"missing": 0, "stale": 1, "different": 1}
    assert operator.hget(KEY, "thread_id") == "conv_other"


def test_verify_lists_for_people_how_they_differ_and_what_mends_it(operator: redis.Redis) -> None:
    put(operator, UNKNOWN, "conv_of_nobody")
    put(operator, KEY, "conv_other")
    run = chatbotctl("cache", "verify")
    assert run.code == 8
    rows = sorted(line.split() for line in run.out.splitlines()[1:])
    assert rows == [["different", KEY, "conv_other", "conv_1"], ["stale", UNKNOWN, "conv_of_nobody", "nothing"]]
    assert "0 missing, 1 stale, 1 different" in run.err
    assert "chatbotctl cache rebuild" in run.err
    operator.delete(KEY, UNKNOWN)
    assert ["missing", KEY, "nothing", "conv_1"] in [
        row.split() for row in chatbotctl("cache", "verify").out.splitlines()
    ]
    operator.set(KEY, "text")
    assert "not readable" in chatbotctl("cache", "verify").out


def test_verify_shows_some_examples_of_many_differences_and_counts_all(operator: redis.Redis) -> None:
    for number in range(30):
        put(operator, f"whatsapp:+15557650{number:03d}_{LUNA}")
    run = chatbotctl("cache", "verify")
    assert run.out.count("stale") == 20
    assert "30 stale" in run.err


def test_hostile_entry_is_shown_and_not_obeyed(operator: redis.Redis) -> None:
    put(operator, UNKNOWN, "\x1b[31m\x9b[/foo]")
    for run in (chatbotctl("cache", "verify"), chatbotctl("cache", "show", "--from", "+15557650000")):
        assert "␛[31m⟨U+009B⟩[/foo]" in run.out


# show


def test_show_tells_what_the_cache_has_and_what_the_database_says(operator: redis.Redis) -> None:
    put(operator, KEY, "conv_other")
    run = chatbotctl("cache", "show", "--from", ANA, "--to", LUNA)
    assert run.code == 0
    assert [row.split() for row in run.out.splitlines()] == [
        ["Key", KEY],
        ["from", ANA],
        ["to", LUNA],
        ["thread_id", "conv_other"],
        ["In", "the", "database", "conv_1"],
    ]
    assert "differ" in run.err
    put(operator, KEY)
    assert "differ" not in chatbotctl("cache", "show", "--from", ANA, "--to", LUNA).err


def test_show_json_is_null_where_there_is_no_entry(operator: redis.Redis) -> None:
    run = chatbotctl("cache", "show", "--from", ANA, "--json")
    assert run.json == {"key": KEY, "cache": None, "database": {"thread_id": "conv_1"}}
    put(operator, UNKNOWN)
    run = chatbotctl("cache", "show", "--from", "+15557650000", "--json")
    assert run.json["cache"] == {"from": "whatsapp:+15557650000", "to": LUNA, "thread_id": "conv_1"}
    assert run.json["database"] == {"thread_id": None}


def test_entry_is_found_by_another_spelling_of_the_customers_number(operator: redis.Redis) -> None:
    put(operator, KEY)
    assert chatbotctl("cache", "show", "--from", "+551187654321", "--json").json["key"] == KEY


def test_entry_that_is_nowhere_is_not_found() -> None:
    run = chatbotctl("cache", "show", "--from", "+15557650000")
    assert run.code == 3
    assert UNKNOWN in run.err


def test_business_has_to_be_named_when_there_are_several() -> None:
    site.add("nova", number=NOVA)
    run = chatbotctl("cache", "show", "--from", ANA)
    assert run.code == 7
    assert "--to" in run.err
    assert chatbotctl("cache", "show", "--from", ANA, "--to", "+15550009999").code == 3


# without a Redis

COMMANDS = [("rebuild",), ("rebuild", "--dry-run"), ("verify",), ("show", "--from", ANA)]


@pytest.mark.parametrize("command", COMMANDS)
def test_cache_inside_the_server_cannot_be_reached_from_here(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL")
    run = chatbotctl("cache", *command)
    assert run.code == 4
    assert "REDIS_URL" in run.err


@pytest.mark.parametrize("command", COMMANDS)
def test_redis_that_is_down_is_an_outside_failure(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("REDIS_URL", f"redis://:hunter2@127.0.0.1:{listener.getsockname()[1]}/0")
    run = chatbotctl("cache", *command)
    assert run.code == 5
    assert "Redis cannot be reached" in run.err
    assert "hunter2" not in run.err
    assert run.out == ""
