"""`db check` and `db repair` as an operator and a script see them; contract/test_database_check has every finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatbotctl.core.storage import turns
from tests import installs
from tests.cli import Run, chatbotctl
from tests.unit.commands import business_site
from tests.unit.commands import db_site as site

NEVER_DUE = "UPDATE business_clients SET ready_at = NULL WHERE id = 2"
MESSAGE_GONE = "DELETE FROM inbound_messages WHERE conversation_id = 1"


@pytest.fixture(autouse=True, params=["sqlite", "postgresql"])
def install(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    site.set_up(monkeypatch, tmp_path, database_url=url)


def assert_discreet(run: Run) -> None:
    assert "PIN" not in run.out + run.err
    assert "7654321" not in run.out + run.err


# check


def test_sound_database_takes_one_line() -> None:
    run = chatbotctl("db", "check")
    assert (run.code, run.out, run.err) == (0, "The database is sound.\n", "")


def test_sound_database_is_ok_in_json() -> None:
    run = chatbotctl("db", "check", "--json")
    assert run.code == 0
    assert run.json == {"ok": True, "findings": []}


def test_problems_are_told_with_their_threads_and_what_mends_them() -> None:
    site.run_sql(NEVER_DUE)
    run = chatbotctl("db", "check")
    assert run.code == 8
    assert run.out.splitlines() == [
        "never_due: 1 thread (2)",
        "  Something is pending, but it is never due: no worker would find it.",
        "  `db repair` mends it. It is due now, and is answered as soon as a worker runs.",
    ]
    assert run.err == "Found 1 problem. `chatbotctl db repair` mends what can be mended.\n"
    assert_discreet(run)


def test_problems_that_a_person_has_to_see_to_say_so() -> None:
    site.run_sql(MESSAGE_GONE)
    run = chatbotctl("db", "check")
    assert run.code == 8
    assert "messages_missing: 1 thread (1)" in run.out
    assert "`db repair` cannot mend it. What was stored there is gone" in run.out
    assert run.err == "Found 1 problem.\n"


def test_json_has_the_keys_that_scripts_rely_on() -> None:
    site.run_sql(NEVER_DUE)
    run = chatbotctl("db", "check", "--json")
    assert run.code == 8
    assert list(run.json) == ["ok", "findings"]
    assert run.json["ok"] is False
    (finding,) = run.json["findings"]
    assert list(finding) == ["code", "table", "count", "ids", "problem", "repair", "advice"]
    assert (finding["code"], finding["table"]) == ("never_due", "business_clients")
    assert (finding["count"], finding["ids"], finding["advice"]) == (1, [2], None)
    assert_discreet(run)


def test_of_many_rows_a_few_are_shown_and_all_are_counted() -> None:
    for number in range(7):
        site.run_sql(f"INSERT INTO clients (address) VALUES ('whatsapp:+1{number}')")
    run = chatbotctl("db", "check")
    assert "client_of_nobody: 7 customers (3, 4, 5, 6, 7, ...)" in run.out
    assert len(chatbotctl("db", "check", "--json").json["findings"][0]["ids"]) == 7


def test_check_changes_nothing() -> None:
    site.run_sql(NEVER_DUE)
    chatbotctl("db", "check")
    assert site.value("SELECT ready_at FROM business_clients WHERE id = 2") is None


# repair


def test_sound_database_needs_no_repair_and_nobody_is_asked() -> None:
    run = chatbotctl("db", "repair")
    assert (run.code, run.err) == (0, "")
    assert run.out == "There is nothing to repair: the database is sound.\n"


def test_dry_run_says_what_would_be_done_and_does_nothing() -> None:
    site.run_sql(NEVER_DUE)
    run = chatbotctl("db", "repair", "--dry-run")
    assert run.code == 8
    assert "never_due: 1 thread (2)" in run.out
    assert run.err == "Would mend 1 problem of 1 problem.\n"
    assert chatbotctl("db", "check").code == 8


def test_repair_needs_yes_where_nobody_can_be_asked() -> None:
    site.run_sql(NEVER_DUE)
    run = chatbotctl("db", "repair")
    assert run.code == 7
    assert "--yes" in run.err
    assert chatbotctl("db", "check").code == 8


def test_repair_mends_and_a_second_one_has_nothing_to_do() -> None:
    site.run_sql(NEVER_DUE)
    run = chatbotctl("db", "repair", "--yes")
    assert run.code == 0
    assert run.out.endswith("Mended 1 problem.\n")
    assert site.value("SELECT ready_at FROM business_clients WHERE id = 2") is not None
    assert chatbotctl("db", "repair").code == 0
    assert_discreet(run)


def test_what_is_left_is_named_and_ends_with_8() -> None:
    site.run_sql(NEVER_DUE)
    site.run_sql(MESSAGE_GONE)
    run = chatbotctl("db", "repair", "--yes")
    assert run.code == 8
    _, _, left = run.out.partition("Mended 1 problem.\n1 problem left:\n")
    assert left.startswith("messages_missing: 1 thread (1)")
    assert run.err == ""


def test_nobody_is_asked_about_what_cannot_be_mended() -> None:
    site.run_sql(MESSAGE_GONE)
    run = chatbotctl("db", "repair")
    assert run.code == 8
    assert "Mended" not in run.out


def test_thread_that_a_worker_is_at_is_left_and_said_to_be_busy() -> None:
    site.run_sql("UPDATE business_clients SET reset_seq = 9 WHERE id = 2")
    with business_site.core() as core, core.database.write() as tx:
        assert turns.claim(tx, 2, owner="one", lease_seconds=60) is not None
    run = chatbotctl("db", "repair", "--yes")
    assert run.code == 8
    assert "Mended 0 problems." in run.out
    assert "being worked on at the moment" in run.err


def test_pending_turns_of_a_restored_database_are_held_before_its_servers_start() -> None:
    run = chatbotctl("db", "repair", "--hold-pending", "--dry-run")
    assert run.code == 0
    assert "Would make dead letters of what is pending in 1 thread" in run.err
    assert site.value("SELECT count(*) FROM turns WHERE state = 'dead'") == 0

    assert chatbotctl("db", "repair", "--hold-pending").code == 7, "it asks"
    run = chatbotctl("db", "repair", "--hold-pending", "--yes")

    assert run.code == 0
    assert "Held back: what was pending in 1 thread" in run.out
    assert site.value("SELECT error_code FROM turns WHERE state = 'dead'") == "restored"
    with business_site.core() as core:
        assert installs.work(core, 2) is None, "nothing is due"


# both


@pytest.mark.parametrize("command", [("db", "check"), ("db", "repair")])
def test_database_without_tables_is_a_conflict(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///absent.db")
    run = chatbotctl(*command)
    assert run.code == 6
    assert "chatbotctl db upgrade" in run.err
    assert not Path("absent.db").exists()
