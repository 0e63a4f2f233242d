"""`queue retry` and `queue drop` as an operator and a script see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbotctl.core.storage import schema as tables
from tests.cli import chatbotctl
from tests.unit.commands import business_site as site
from tests.unit.commands.queue_site import (
    ANA,
    BEN,
    LUNA,
    NOVA,
    changed,
    dead,
    listed,
    post,
    received,
    run,
    running_turn,
    states,
)


@pytest.fixture(autouse=True)
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    site.set_up(monkeypatch, tmp_path)
    site.add("luna", number=LUNA)
    site.add("nova", number=NOVA)
    yield


# retry


def test_retried_turn_waits_for_a_worker_and_the_command_says_what_will_happen() -> None:
    dead()
    done = run("retry", "1")

    assert (done.code, done.out) == (0, "")
    assert "Turn 1 is gone on with: the assistant is asked again." in done.err
    assert "late" in done.err
    assert "start `chatbotctl serve`" in done.err, "nobody is there who would do it"
    assert states() == {"1": "waiting"}


def test_stored_reply_is_sent_and_nobody_is_asked() -> None:
    dead(parts=(("sent", None), ("failed", "63016")), code="send_failed")
    assert "what has not left of its reply is sent" in run("retry", "1").err


def test_worker_that_is_there_is_not_asked_for() -> None:
    dead()
    running_turn(sender=BEN)
    assert "chatbotctl serve" not in run("retry", "1").err


def test_slack_post_is_owed_again() -> None:
    dead()
    id_ = post("dead")
    assert "Slack post s1 is owed again" in run("retry", id_).err
    assert states("--kind", "slack") == {"s1": "waiting"}


def test_retry_for_a_held_thread_says_that_it_waits() -> None:
    dead()
    changed(tables.business_clients, held_by="operator")
    assert "until they give it back" in run("retry", "1").err


def test_retry_json_has_the_keys_that_scripts_rely_on() -> None:
    dead()
    running_turn(sender=BEN)
    done = run("retry", "1", "2", "99", "--json")

    assert done.json == {
        "retried": [{"id": "1", "held": False, "asks": True}],
        "left": [
            {
                "id": "2",
                "code": "conflict",
                "message": "Turn 2 is no dead letter: it is being worked on, or will be.",
            },
            {"id": "99", "code": "not_found", "message": "There is no turn 99."},
        ],
    }
    assert done.code == 6, "the first failure's"


def test_second_retry_is_a_conflict_and_changes_nothing() -> None:
    dead()
    run("retry", "1")
    done = run("retry", "1")
    assert done.code == 6
    assert "no dead letter" in done.err


@pytest.mark.parametrize(("id_", "code"), [("99", 3), ("s99", 3), ("banana", 3), ("t1", 6)])
def test_what_cannot_be_retried_has_its_exit_code(id_: str, code: int) -> None:
    received()
    assert run("retry", id_).code == code


def test_disabled_business_is_refused() -> None:
    dead()
    chatbotctl("business", "disable", "luna")
    done = run("retry", "1")
    assert done.code == 7
    assert "business enable luna" in done.err
    assert states() == {"1": "dead"}


def test_all_is_asked_about_first() -> None:
    dead()
    done = run("retry", "--all")
    assert done.code == 7
    assert "Retry 1 dead letter?" in done.err and "--yes" in done.err
    assert states() == {"1": "dead"}


def test_all_is_turns_and_slack_posts() -> None:
    dead()
    dead(sender=BEN, to=NOVA)
    post("dead")
    assert run("retry", "--all", "--yes").code == 0
    assert states("--state", "dead") == {}


def test_all_of_one_business_leaves_another_alone() -> None:
    dead(to=LUNA)
    dead(to=NOVA)
    post("dead", thread=1)
    run("retry", "--all", "--business", "nova", "--yes")
    assert set(states("--state", "dead")) == {"1", "s1"}


@pytest.mark.parametrize(("code", "left"), [("send_failed", {"1"}), ("63016", {"1"}), ("invalid_blocks", {"1", "2"})])
def test_all_that_failed_with_a_code_leaves_the_others(code: str, left: set[str]) -> None:
    dead(sender=ANA)
    dead(sender=BEN, code="send_failed", parts=(("failed", "63016"),))
    run("retry", "--all", "--code", code, "--yes")
    assert set(states("--state", "dead")) == left


def test_all_of_many_tells_how_many() -> None:
    for number in range(21):
        dead(sender=f"whatsapp:+155576500{number:02}")
    done = run("retry", "--all", "--yes")
    assert "21 dead letters are gone on with." in done.err
    assert len(done.err.splitlines()) < 6


def test_all_where_there_is_none_is_done() -> None:
    done = run("retry", "--all", "--yes")
    assert done.code == 0
    assert "no such dead letter" in done.err


@pytest.mark.parametrize(
    "args", [(), ("1", "--all"), ("1", "--business", "luna"), ("1", "--code", "x"), ("--nope",)], ids=str
)
def test_wrong_options_are_usage_errors(args: tuple[str, ...]) -> None:
    assert run("retry", *args).code == 2


def test_dry_run_changes_nothing() -> None:
    dead()
    running_turn(sender=BEN)
    done = run("retry", "1", "2", "--dry-run")
    assert done.code == 0
    assert "Would retry 1 dead letter: turn 1." in done.err and "No dead letter: turn 2." in done.err
    assert run("retry", "--all", "--dry-run", "--json").json == {"would_retry": ["1"], "left": [], "dry_run": True}
    assert states("--state", "dead") == {"1": "dead"}


# drop


def test_dropped_letters_are_listed_apart_and_say_why() -> None:
    dead()
    post("dead")
    done = run("drop", "1", "s1", "--reason", "answered by\nphone", "--yes")

    assert (done.code, done.err) == (0, "Dropped turn 1, Slack post s1.\n")
    assert listed() == []
    assert states("--state", "dropped") == {"1": "dropped", "s1": "dropped"}
    for id_ in ("1", "s1"):
        told = run("show", id_, "--json").json["events"][-1]
        assert (told["kind"], told["detail"]["reason"]) == ("dropped", "answered by phone")
    assert run("status", "--json").json["turns"]["dead"] == 0


def test_drop_is_asked_about_first() -> None:
    dead()
    done = run("drop", "1", "--reason", "no")
    assert done.code == 7
    assert "Drop turn 1?" in done.err
    assert states() == {"1": "dead"}


def test_no_customer_goes_without_an_answer_when_a_slack_post_is_dropped() -> None:
    dead()
    id_ = post("dead")
    assert "no customer notices" in run("drop", id_, "--reason", "no").err
    assert "The customers get no answer." in run("drop", id_, "1", "--reason", "no").err


def test_drop_without_a_reason_is_a_usage_error() -> None:
    dead()
    assert run("drop", "1", "--yes").code == 2
    empty = run("drop", "1", "--reason", " ", "--yes")
    assert empty.code == 7
    assert "for your colleagues" in empty.err
    assert run("drop", "--reason", "no", "--yes").code == 2


@pytest.mark.parametrize(("id_", "code"), [("99", 3), ("s99", 3), ("banana", 3), ("t2", 6), ("2", 6)])
def test_what_cannot_be_dropped_has_its_exit_code(id_: str, code: int) -> None:
    dead()
    running_turn(sender=BEN)
    assert run("drop", id_, "--reason", "no", "--yes").code == code


def test_drop_json_and_dry_run_have_the_keys_that_scripts_rely_on() -> None:
    dead()
    told = run("drop", "1", "9", "--reason", "no", "--dry-run", "--json")
    assert told.json == {"would_drop": ["1"], "left": ["9"], "dry_run": True}
    assert states() == {"1": "dead"}

    done = run("drop", "1", "9", "--reason", "no", "--yes", "--json")
    assert done.code == 3
    assert done.json == {
        "dropped": ["1"],
        "left": [{"id": "9", "code": "not_found", "message": "There is no turn 9."}],
    }
