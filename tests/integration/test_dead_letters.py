"""Dead letters that an operator has gone on with: the customer gets one answer, whatever happened before or since."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chatbotctl.core.errors import BusinessDisabled, ChatbotError, ConflictError
from chatbotctl.core.flow.accept import Accepted
from chatbotctl.core.flow.worker import work_once
from chatbotctl.core.records.backlog import EntryId, Kind
from chatbotctl.core.records.message import Result
from chatbotctl.core.storage import businesses, slack_posts
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import now
from chatbotctl.core.upkeep import dead_letters
from chatbotctl.core.wiring import Core
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.openai_wire import refusal as ai_refusal
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import FakeTwilio, refusal
from tests.installs import (
    Vendors,
    add_business,
    answer,
    eventually,
    install,
    outcome,
    post_to_slack,
    running,
    sqlite_database,
    take_in,
    work,
)
from tests.integration.slack_site import refused

RESPONSES = "/v1/responses"
THREE_PARTS = "\n\n".join(f"part{number} " + "word " * 280 for number in (1, 2, 3))


class Killed(BaseException):
    """The process ends here."""


def dead(core: Core, ai: FakeOpenAI, body: str = "Hello", **fields: object) -> Accepted:
    """A message whose turn is dead because the AI failed; the customer has read the apology."""
    ai.plan(RESPONSES, times=1, response=ai_refusal(500, "no"))
    accepted = take_in(core, body, **fields)
    work(core, accepted.conversation_id)
    assert outcome(core, accepted).result is Result.FAILED
    return accepted


def half_sent(core: Core, ai: FakeOpenAI, twilio: FakeTwilio) -> Accepted:
    """A message whose reply of three parts broke off after the first: Twilio refused the second for good."""
    ai.reply = lambda _: THREE_PARTS
    twilio.plan("Messages", response=None)
    twilio.plan("Messages", times=1, response=refusal(63016))
    accepted = take_in(core)
    work(core, accepted.conversation_id)
    assert outcome(core, accepted).result is Result.FAILED
    return accepted


def unknown(core: Core, twilio: FakeTwilio, *, accept: bool) -> Accepted:
    """A message whose reply may have left: Twilio gave no answer, and then could not be asked for its list."""
    twilio.plan("Messages", method="POST", times=1, accept=accept, cut=True)
    accepted = take_in(core, "Hello")
    work(core, accepted.conversation_id)
    twilio.plan("Messages", times=1, response=refusal(20003, status=401))
    with core.database.write() as tx:
        tx.execute(tables.business_clients.update().values(ready_at=0.0))
    work(core, accepted.conversation_id)
    assert outcome(core, accepted).result is Result.FAILED
    return accepted


def turn(number: int) -> EntryId:
    return EntryId(Kind.TURN, number)


def retry(core: Core, number: int = 1) -> dead_letters.Retried:
    return dead_letters.retry(core.services, turn(number))


def slack_shows(core: Core, slack: FakeSlack) -> list[str]:
    post_to_slack(core, 1)
    (channel,) = slack.channels
    return slack.texts(channel)


def events_of(core: Core, *kinds: str) -> list[tuple[str, dict[str, object]]]:
    with core.database.read() as tx:
        rows = tx.execute(tables.events.select().order_by(tables.events.c.id)).all()
    return [(row.kind, dict(row.detail)) for row in rows if row.kind in kinds]


def expire_lease(core: Core) -> None:
    with core.database.write() as tx:
        tx.execute(tables.business_clients.update().values(lease_until=now() - 1))


# the assistant had failed


def test_answer_comes_once_and_late_and_slack_shows_the_apology_the_alert_and_then_the_reply(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(any_site)
    accepted = dead(any_site, fake_openai, "Do you have bread?")
    newer = take_in(any_site, "Hello?")
    work(any_site, newer.conversation_id)
    sorry = any_site.settings.replies.apology

    retry(any_site)
    work(any_site, accepted.conversation_id)

    assert fake_twilio.sent() == [sorry, "You said: Hello?", "You said: Do you have bread?"]
    assert [outcome(any_site, each).result for each in (accepted, newer)] == [Result.REPLIED] * 2
    shown = slack_shows(any_site, fake_slack)
    assert shown[1] == f"Automatic line\n{sorry}"
    assert "The assistant could not answer" in shown[2]
    assert shown[4:] == ["Assistant\nYou said: Hello?", "Assistant\nYou said: Do you have bread?"]
    assert events_of(any_site, "retried") == [("retried", {"asks": True, "code": "assistant_failed"})]


def test_answer_comes_before_that_to_newer_messages_that_still_wait(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(any_site, apology="")
    accepted = dead(any_site, fake_openai, "one")
    take_in(any_site, "two")
    retry(any_site)

    work(any_site, accepted.conversation_id)

    assert fake_twilio.sent() == ["You said: one", "You said: two"]


def test_running_worker_finds_what_another_process_retried(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(any_site, apology="")
    accepted = dead(any_site, fake_openai)
    with running(any_site):
        retry(any_site)
        eventually(lambda: outcome(any_site, accepted).result is Result.REPLIED)

    assert fake_twilio.sent() == ["You said: Hello"]


def test_customer_reads_no_second_apology_when_the_assistant_fails_again(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(any_site)
    accepted = dead(any_site, fake_openai)
    fake_openai.plan(RESPONSES, times=1, response=ai_refusal(500, "no"))
    retry(any_site)
    work(any_site, accepted.conversation_id)

    assert outcome(any_site, accepted).result is Result.FAILED
    assert len(fake_twilio.sent()) == 1
    titles = [line.partition("\n")[0] for line in slack_shows(any_site, fake_slack)]
    assert len(titles) == 4, "the question, the apology, and an alert for each failure"
    assert titles.count("Automatic line") == 1

    retry(any_site)
    work(any_site, accepted.conversation_id)
    assert fake_twilio.sent()[1:] == ["You said: Hello"]


def test_apology_that_could_not_be_sent_does_not_stand_in_the_answers_way(
    site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(site)
    fake_twilio.plan("Messages", times=1, response=refusal(63016))
    accepted = dead(site, fake_openai)
    retry(site)
    work(site, accepted.conversation_id)

    assert fake_twilio.sent() == ["You said: Hello"]
    assert outcome(site, accepted).result is Result.REPLIED


def test_old_question_is_not_answered_with_what_was_said_to_the_same_words_since(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    """The customer asked again; the provider's conversation ends in those very words and their answer."""
    add_business(any_site, apology="")
    replies = iter(["first answer", "second answer"])
    accepted = dead(any_site, fake_openai, "Do you have bread?")
    fake_openai.reply = lambda _: next(replies)
    answer(any_site, "Do you have bread?")

    retry(any_site)
    work(any_site, accepted.conversation_id)

    assert fake_twilio.sent() == ["first answer", "second answer"]


def test_answer_that_came_too_late_to_be_heard_is_sent_and_not_asked_for_again(
    site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(site, apology="")
    fake_openai.plan(RESPONSES, times=1, cut=True, accept=True)
    accepted = take_in(site, "Hello")
    work(site, accepted.conversation_id)
    assert outcome(site, accepted).result is Result.FAILED

    retry(site)
    work(site, accepted.conversation_id)

    assert fake_twilio.sent() == ["You said: Hello"]
    assert len(fake_openai.asked) == 1


def test_assistant_without_a_memory_is_given_what_was_before_the_old_question_alone(
    site: Core, fake_openai: FakeOpenAI
) -> None:
    add_business(site, backend="chat", apology="")
    answer(site, "before")
    fake_openai.plan("/v1/chat/completions", times=1, response=ai_refusal(500, "no"))
    accepted = take_in(site, "old")
    work(site, accepted.conversation_id)
    answer(site, "since")

    retry(site, 2)
    work(site, accepted.conversation_id)

    asked = fake_openai.asked[-1]
    assert asked.text == "old"
    assert asked.history == (("user", "before"), ("assistant", "You said: before"))


def test_provider_that_lost_the_conversation_is_told_of_what_was_answered_since(
    site: Core, fake_openai: FakeOpenAI
) -> None:
    """The next questions are asked there too."""
    add_business(site, apology="")
    accepted = dead(site, fake_openai, "old")
    answer(site, "since")
    fake_openai.forget()

    retry(site)
    work(site, accepted.conversation_id)
    answer(site, "next")

    assert fake_openai.asked[-1].history == (
        ("user", "since"),
        ("assistant", "You said: since"),
        ("user", "old"),
        ("assistant", "You said: old"),
    )


# the reply had not left


def test_rest_of_a_reply_is_sent_and_nobody_is_asked(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(any_site)
    accepted = half_sent(any_site, fake_openai, fake_twilio)
    before = slack_shows(any_site, fake_slack)

    assert not retry(any_site).asks
    work(any_site, accepted.conversation_id)

    assert [text.partition(" ")[0] for text in fake_twilio.sent()] == ["part1", "part2", "part3"]
    assert len(fake_openai.asked) == 1
    assert outcome(any_site, accepted).result is Result.REPLIED
    (told,) = slack_shows(any_site, fake_slack)[len(before) :]
    assert told.startswith("Assistant\n") and "part1" not in told and "part2" in told and "part3" in told


@pytest.mark.parametrize(("accept", "posts"), [(True, 1), (False, 2)], ids=["taken", "not taken"])
def test_part_that_may_have_left_is_looked_for_and_sent_only_if_it_did_not(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, accept: bool, posts: int
) -> None:
    add_business(any_site)
    accepted = unknown(any_site, fake_twilio, accept=accept)

    retry(any_site)
    work(any_site, accepted.conversation_id)

    assert outcome(any_site, accepted).result is Result.REPLIED
    assert fake_twilio.sent() == ["You said: Hello"]
    assert len(fake_twilio.seen("Messages", "POST")) == posts
    assert len(fake_openai.asked) == 1


def test_part_that_may_have_left_too_long_ago_to_be_found_is_not_sent_again(
    site: Core, fake_twilio: FakeTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatbotctl.core.storage.dead_letters.MOST_SINCE", 1)
    add_business(site)
    unknown(site, fake_twilio, accept=True)
    answer(site, "one")
    answer(site, "two")

    with pytest.raises(ConflictError, match="sent twice"):
        retry(site)


def test_part_that_may_have_left_by_another_number_is_not_sent_again(site: Core, fake_twilio: FakeTwilio) -> None:
    bakery = add_business(site)
    unknown(site, fake_twilio, accept=True)
    with site.database.write() as tx:
        businesses.change(tx, bakery, {"whatsapp_address": "whatsapp:+15550009999"})

    with pytest.raises(ConflictError, match="sent twice"):
        retry(site)


def test_people_are_called_once_however_often_the_reply_is_tried(
    vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    with install(vendors, database_url=sqlite_database(tmp_path)) as core:
        add_business(core, backend="knowledge")
        fake_twilio.plan("Messages", times=1, response=refusal(63016))
        accepted = take_in(core, "What is the meaning of life?")
        work(core, accepted.conversation_id)
        retry(core)
        work(core, accepted.conversation_id)

        assert outcome(core, accepted).result is Result.REPLIED
        assert sum("A person is needed" in line for line in slack_shows(core, fake_slack)) == 1


def test_line_that_only_text_is_read_is_sent_again_when_it_did_not_leave(site: Core, fake_twilio: FakeTwilio) -> None:
    add_business(site)
    fake_twilio.plan("Messages", times=1, response=refusal(63016))
    accepted = take_in(site, "", kind="image")
    work(site, accepted.conversation_id)

    assert not retry(site).asks
    work(site, accepted.conversation_id)

    assert fake_twilio.sent() == [site.settings.replies.text_only]


def test_reply_leaves_by_the_number_that_the_business_has_now(
    site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    bakery = add_business(site)
    fake_twilio.plan("Messages", times=1, response=refusal(63016))
    accepted = take_in(site)
    work(site, accepted.conversation_id)
    with site.database.write() as tx:
        businesses.change(tx, bakery, {"whatsapp_address": "whatsapp:+15550009999"})

    retry(site)
    work(site, accepted.conversation_id)

    assert [message["from"] for message in fake_twilio.messages] == ["whatsapp:+15550009999"]


# killed in between


@pytest.mark.parametrize("where", ["find_thread", "translate_answer", "send_reply", "settle"])
def test_worker_that_dies_over_a_retried_turn_has_an_heir_and_nothing_is_said_twice(
    any_site: Core,
    fake_openai: FakeOpenAI,
    fake_twilio: FakeTwilio,
    fake_slack: FakeSlack,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    add_business(any_site)
    accepted = dead(any_site, fake_openai)
    retry(any_site)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(f"chatbotctl.core.flow.pipeline.{where}", die)
        with pytest.raises(Killed):
            work_once(any_site.services, accepted.conversation_id, owner="dead")
    expire_lease(any_site)
    work(any_site, accepted.conversation_id, owner="heir")

    assert fake_twilio.sent() == [any_site.settings.replies.apology, "You said: Hello"]
    assert outcome(any_site, accepted).result is Result.REPLIED
    assert slack_shows(any_site, fake_slack)[3:] == ["Assistant\nYou said: Hello"]
    assert len(fake_openai.asked) == 1


# many hands


def test_of_many_who_retry_at_once_one_does(any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio) -> None:
    add_business(any_site, apology="")
    accepted = dead(any_site, fake_openai)

    def try_it(_: int) -> str:
        try:
            retry(any_site)
        except ConflictError as error:
            return error.message
        return "done"

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(try_it, range(8)))
    work(any_site, accepted.conversation_id)

    assert told.count("done") == 1
    assert {each for each in told if each != "done"} == {"Turn 1 is no dead letter: it is being worked on, or will be."}
    assert fake_twilio.sent() == ["You said: Hello"]


def test_retry_and_drop_at_once_are_one_of_the_two(any_site: Core, fake_openai: FakeOpenAI) -> None:
    add_business(any_site, apology="")
    for number in range(1, 6):
        accepted = dead(any_site, fake_openai, sender=f"whatsapp:+1555222000{number}")

        def act(act_on: str, number: int = number) -> bool:
            try:
                if act_on == "retry":
                    retry(any_site, number)
                else:
                    dead_letters.drop(any_site.services, turn(number), "no")
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(act, ["retry", "drop"])) == [False, True]
        work(any_site, accepted.conversation_id)
        assert outcome(any_site, accepted).result in (Result.REPLIED, Result.FAILED)


# what does not leave


def test_dropped_letter_stays_failed_and_cannot_be_retried(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(any_site, apology="")
    accepted = dead(any_site, fake_openai)

    dead_letters.drop(any_site.services, turn(1), "answered by phone")

    assert work(any_site, accepted.conversation_id) is None
    assert outcome(any_site, accepted).result is Result.FAILED
    assert fake_twilio.sent() == []
    with pytest.raises(ConflictError, match="it was dropped"):
        retry(any_site)
    assert events_of(any_site, "dropped") == [("dropped", {"reason": "answered by phone", "code": "assistant_failed"})]


def test_simulated_letter_that_is_retried_reaches_no_customer(
    vendors: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    printed: list[str] = []
    with install(vendors, database_url=sqlite_database(tmp_path), print_unsent=printed.append) as core:
        add_business(core, apology="")
        accepted = dead(core, fake_openai, simulated=True)
        retry(core)
        work(core, accepted.conversation_id)

        assert outcome(core, accepted).result is Result.REPLIED
    assert len(printed) == 1 and printed[0].endswith("You said: Hello")
    assert fake_twilio.requests == []


def test_disabled_business_sends_nothing_that_was_retried(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    bakery = add_business(any_site, apology="")
    accepted = dead(any_site, fake_openai)
    with any_site.database.write() as tx:
        businesses.set_disabled(tx, bakery, True, "closed")

    with pytest.raises(BusinessDisabled):
        retry(any_site)

    with any_site.database.write() as tx:
        businesses.set_disabled(tx, bakery, False)
    retry(any_site)
    with any_site.database.write() as tx:
        businesses.set_disabled(tx, bakery, True, "closed again")
    work(any_site, accepted.conversation_id)
    assert fake_twilio.sent() == []


def test_what_an_old_owner_of_the_number_asked_is_not_answered_to_the_new_one(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(any_site, apology="")
    dead(any_site, fake_openai, "old", external_user_id="US.OLD")
    answer(any_site, "new", external_user_id="US.NEW")

    with pytest.raises(ConflictError, match="somebody else"):
        retry(any_site)

    assert fake_twilio.sent() == ["You said: new"]


@pytest.mark.parametrize("letter", ["7", "s7", "t7"])
def test_letter_that_is_not_there_is_named(site: Core, letter: str) -> None:
    id_ = EntryId.parse(letter)
    assert id_ is not None
    with pytest.raises(ChatbotError, match="7"):
        dead_letters.retry(site.services, id_)


# Slack


def dead_posts(core: Core, slack: FakeSlack) -> None:
    """The first line is a dead letter, the second was posted."""
    slack.plan("chat.postMessage", times=1, response=refused("invalid_blocks"))
    add_business(core)
    answer(core, "Hello")
    post_to_slack(core, 1)


def test_dead_post_that_is_retried_is_posted_once_before_what_is_owed_since(
    any_site: Core, fake_slack: FakeSlack
) -> None:
    dead_posts(any_site, fake_slack)
    answer(any_site, "And now?")

    dead_letters.retry(any_site.services, EntryId(Kind.SLACK, 1))
    with pytest.raises(ConflictError, match="it is owed"):
        dead_letters.retry(any_site.services, EntryId(Kind.SLACK, 1))
    with any_site.database.read() as tx:
        assert slack_posts.due(tx, limit=1) == [1]
    lines = [line.partition("\n")[2] for line in slack_shows(any_site, fake_slack)]

    assert lines == ["You said: Hello", "Hello", "And now?", "You said: And now?"]
    assert events_of(any_site, "retried") == [("retried", {"post": 1, "code": "invalid_blocks"})]


def test_dropped_post_is_never_posted(any_site: Core, fake_slack: FakeSlack) -> None:
    dead_posts(any_site, fake_slack)

    dead_letters.drop(any_site.services, EntryId(Kind.SLACK, 1), "too long for Slack")

    assert len(slack_shows(any_site, fake_slack)) == 1
    with pytest.raises(ConflictError, match="it is dropped"):
        dead_letters.retry(any_site.services, EntryId(Kind.SLACK, 1))
