"""`queue status|list|show` as an operator and a script see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbotctl.core.storage import schema as tables
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
    postponed_turn,
    received,
    run,
    running_turn,
    states,
)

LIST_KEYS = [
    "id",
    "kind",
    "state",
    "held",
    "business",
    "thread",
    "from",
    "since",
    "age_seconds",
    "attempts",
    "next_attempt_seconds",
    "code",
    "reason",
    "simulated",
]
NOTHING = {"waiting": 0, "due": 0, "running": 0, "postponed": 0, "held": 0, "dead": 0}


@pytest.fixture(autouse=True)
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    site.set_up(monkeypatch, tmp_path)
    site.add("luna", number=LUNA)
    site.add("nova", number=NOVA)
    yield


def one_of_each() -> None:
    """Something in every state: dead 1 (Ana), running 2, put off 3, waiting without a turn, held."""
    dead()
    running_turn(sender="whatsapp:+15557650001")
    postponed_turn(sender="whatsapp:+15557650002")
    received(sender="whatsapp:+15557650003")


# status


def test_status_json_has_the_keys_that_scripts_rely_on() -> None:
    one_of_each()
    post("owed", code=None)
    post("dead")
    told = run("status", "--json").json

    assert list(told) == ["turns", "oldest_seconds", "slack", "oldest_slack_seconds", "workers", "businesses"]
    assert told["turns"] == {**NOTHING, "due": 1, "running": 1, "postponed": 1, "dead": 1}
    assert told["slack"] == {"owed": 1, "posting": 0, "dead": 1}
    assert told["workers"] == [{"owner": "worker-1", "leases": 1}]
    (luna,) = told["businesses"]
    assert luna == {"business": "luna", **{key: told[key] for key in list(told)[:4]}}


def test_idle_install_says_so() -> None:
    done = run("status")
    assert done.out.splitlines()[1].split() == ["all", "0", "0", "0", "0", "0", "0", "-"]
    assert "SLACK" not in done.out
    assert "No worker is at a turn" in done.err
    assert run("status", "--json").json["turns"] == NOTHING


def test_status_fits_on_a_screen_and_leaves_quiet_businesses_out() -> None:
    one_of_each()
    post("dead")
    done = run("status")

    assert max(map(len, done.out.splitlines())) <= 80
    assert "luna" in done.out and "nova" not in done.out
    assert "worker-1 (1)" in done.err


def test_status_counts_by_business_and_all_together() -> None:
    dead(to=LUNA)
    dead(to=NOVA)
    dead(to=NOVA, sender=BEN)
    told = run("status", "--json").json

    assert told["turns"]["dead"] == 3
    assert {each["business"]: each["turns"]["dead"] for each in told["businesses"]} == {"luna": 1, "nova": 2}


def test_status_of_one_business_knows_nothing_of_another() -> None:
    one_of_each()
    post("dead")
    told = run("status", "--business", "nova", "--json").json

    assert told["turns"] == NOTHING
    assert told["slack"] == {"owed": 0, "posting": 0, "dead": 0}
    assert (told["workers"], told["businesses"], told["oldest_seconds"]) == ([], [], None)


def test_oldest_is_the_first_message_that_waits_for_an_answer_and_that_no_operator_holds() -> None:
    received()
    changed(tables.inbound_messages, received_at=1_700_000_000.0)
    received()
    age = run("status", "--json").json["oldest_seconds"]
    assert age > 90_000_000

    changed(tables.business_clients, held_by="operator")
    told = run("status", "--json").json
    assert (told["turns"]["held"], told["oldest_seconds"]) == (1, None)


def test_burst_that_is_not_due_yet_waits() -> None:
    received()
    changed(tables.business_clients, ready_at=9_999_999_999.0)

    assert run("status", "--json").json["turns"] == {**NOTHING, "waiting": 1}


# list


def test_list_json_has_the_keys_that_scripts_rely_on() -> None:
    dead(parts=(("sent", None), ("failed", "63016")), code="send_failed")
    (entry,) = listed()

    assert list(entry) == LIST_KEYS
    assert entry.pop("since").endswith("Z")
    assert 0 <= entry.pop("age_seconds") < 100
    assert entry == {
        "id": "1",
        "kind": "turn",
        "state": "dead",
        "held": False,
        "business": "luna",
        "thread": 1,
        "from": ANA,
        "attempts": 1,
        "next_attempt_seconds": None,
        "code": "send_failed",
        "reason": "63016",
        "simulated": False,
    }


def test_list_shows_what_needs_a_person_first() -> None:
    one_of_each()
    post("dead")
    post("owed", code=None)

    assert states() == {
        "1": "dead",
        "s1": "dead",
        "3": "postponed",
        "2": "running",
        "t4": "waiting",
        "s2": "waiting",
    }


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (("--state", "dead"), {"1", "s1"}),
        (("--state", "running"), {"2"}),
        (("--state", "postponed"), {"3"}),
        (("--state", "waiting"), {"t4"}),
        (("--state", "dropped"), set()),
        (("--kind", "slack"), {"s1"}),
        (("--kind", "turn"), {"1", "2", "3", "t4"}),
        (("--business", "nova"), set()),
    ],
)
def test_list_is_narrowed(options: tuple[str, ...], ids: set[str]) -> None:
    one_of_each()
    post("dead")
    assert set(states(*options)) == ids


def test_list_for_people_fits_on_a_screen_and_says_how_long_and_why() -> None:
    dead(parts=(("failed", "63016"),), code="send_failed")
    postponed_turn(sender=BEN)
    head, first, second = run("list").out.splitlines()

    assert head.split() == ["ID", "STATE", "BUSINESS", "CUSTOMER", "AGE", "TRIES", "CODE"]
    assert first.split()[:4] == ["1", "dead", "luna", "+15557654321"]
    assert first.split()[-1] == "63016"
    assert "postponed (1 min)" in second
    assert max(map(len, (head, first, second))) <= 80


def test_turn_that_is_put_off_says_for_how_long() -> None:
    postponed_turn(100.0)
    (entry,) = listed("--state", "postponed")
    assert 90 < entry["next_attempt_seconds"] <= 100


def test_timeline_rounds_how_long_a_turn_was_put_off_for() -> None:
    postponed_turn(3.0784745161832756)
    assert "code: send_failed, seconds: 3.1\n" in run("show", "1").out.replace(" \n", "\n")


@pytest.mark.parametrize("typed", ["9" * 30, "s" + "9" * 19, "x", "", "٣"])
def test_what_is_no_id_is_named_as_it_was_typed(typed: str) -> None:
    done = run("show", typed)
    assert done.code == 3
    assert f"`{typed}` is no id of the queue." in done.err


def test_thread_that_an_operator_holds_says_so() -> None:
    received()
    changed(tables.business_clients, held_by="operator")
    assert listed()[0]["held"] is True
    assert "waiting (held)" in run("list").out


def test_turn_of_a_dead_worker_waits_for_another() -> None:
    running_turn()
    changed(tables.business_clients, lease_until=1.0)
    assert states() == {"1": "waiting"}


def test_list_says_when_there_is_more() -> None:
    for number in range(3):
        dead(sender=f"whatsapp:+1555765000{number}")
    done = run("list", "--limit", "2")
    assert len(done.out.splitlines()) == 3
    assert "There is more" in done.err
    assert "There is more" not in run("list", "--limit", "3").err


def test_empty_queue_is_an_empty_document_and_a_note() -> None:
    assert listed() == []
    done = run("list")
    assert (done.code, done.out) == (0, "")
    assert "Nothing waits" in done.err


@pytest.mark.parametrize("options", [("--state", "lost"), ("--limit", "0"), ("--kind", "thread"), ("--nope",)])
def test_wrong_options_are_usage_errors(options: tuple[str, ...]) -> None:
    assert run("list", *options).code == 2


@pytest.mark.parametrize("command", ["status", "list"])
def test_business_that_is_not_there_is_named(command: str) -> None:
    done = run(command, "--business", "sol")
    assert done.code == 3
    assert "sol" in done.err and "luna" in done.err


# show


def test_show_json_has_the_keys_that_scripts_rely_on() -> None:
    number = dead("Rye?", parts=(("failed", "63016"),), code="send_failed")
    told = run("show", str(number), "--json").json

    assert list(told) == [
        *LIST_KEYS,
        "error",
        "hint",
        "messages",
        "title",
        "text",
        "translation",
        "needs_human",
        "model",
        "parts",
        "events",
    ]
    assert {key: told[key] for key in LIST_KEYS if "age" not in key} == {
        key: value for key, value in listed()[0].items() if "age" not in key
    }
    assert [message["body"] for message in told["messages"]] == ["Rye?"]
    assert (told["text"], told["model"], told["error"]) == ("Yes, we do.", "gpt-test", "It failed for good.")
    assert told["parts"] == [
        {
            "part": 1,
            "author": "assistant",
            "state": "failed",
            "sid": None,
            "delivery_status": None,
            "code": "63016",
            "body": "part 1",
        }
    ]
    assert [event["kind"] for event in told["events"]] == ["received", "turn_opened"]
    assert "24 hours" in told["hint"]


def test_show_for_people_tells_what_was_said_what_happened_and_what_to_do() -> None:
    dead("Do you have \x1b[31mrye\x1b[0m?", parts=(("sent", None), ("unknown", "timeout")), code="send_failed")
    shown = run("show", "1").out

    assert "What to do" in shown and "sent twice" in shown
    assert "send_failed (timeout)" in shown
    assert "Do you have ␛[31mrye␛[0m?" in shown and "\x1b" not in shown
    assert "Yes, we do." in shown
    assert "turn_opened" in shown


def test_show_of_a_slack_post_has_its_text() -> None:
    dead()
    id_ = post("dead", text="Good \x1b[2J morning")
    shown = run("show", id_).out
    assert "Slack post s1" in shown and "invalid_blocks" in shown and "Good ␛[2J morning" in shown
    assert run("show", id_, "--json").json["title"] == "Assistant"


def test_show_of_a_thread_without_a_turn_has_what_waits() -> None:
    received("One")
    received("Two")
    assert [message["body"] for message in run("show", "t1", "--json").json["messages"]] == ["One", "Two"]


@pytest.mark.parametrize("id_", ["9", "s9", "t9", "banana", "", "-", "9" * 30, "s", "1.5", "٣"])
def test_what_is_not_there_is_not_found(id_: str) -> None:
    done = run("show", "--", id_)
    assert done.code == 3
    assert done.err.startswith("Error: ")
