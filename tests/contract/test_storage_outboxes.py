"""What is owed, on both stores: parts of a reply that leave once each, and Slack posts that leave in order."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, event

from chatbotctl.core.records.business import Business, Layout
from chatbotctl.core.records.conversation import Author
from chatbotctl.core.records.slack import OwedPost
from chatbotctl.core.records.turn import PartState, SentMessage, Turn
from chatbotctl.core.storage import businesses, conversations, events, outbox, slack_posts
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import Database, now
from tests.contract import store
from tests.contract.store import open_turn, take
from tests.installs import BUSINESS, add_business


@pytest.fixture
def bakery(database: Database) -> Business:
    return add_business(database)


@pytest.fixture
def turn(database: Database, bakery: Business) -> Turn:
    return open_turn(database, take(database, bakery, sid="SM1").conversation_id)


# the WhatsApp outbox


def test_parts_are_numbered_on_and_go_where_the_customer_wrote_from(database: Database, bakery: Business) -> None:
    take(database, bakery, sender="whatsapp:+5511987654321")
    taken = take(database, bakery, sender="whatsapp:+551187654321")
    turn = open_turn(database, taken.conversation_id)

    with database.write() as tx:
        outbox.add_reply(tx, turn, ["one", "two"], Author.ASSISTANT)
        parts = outbox.parts(tx, turn.id)

    assert [(part.part, part.body, part.author.value, part.state) for part in parts] == [
        (1, "one", "assistant", "ready"),
        (2, "two", "assistant", "ready"),
    ]
    assert {(part.sender, part.recipient) for part in parts} == {(BUSINESS, "whatsapp:+551187654321")}


def test_part_that_has_left_or_was_given_up_does_not_start_to_leave(database: Database, turn: Turn) -> None:
    with database.write() as tx:
        outbox.add_reply(tx, turn, ["Yes."], Author.ASSISTANT)
        (part,) = outbox.parts(tx, turn.id)
        assert outbox.start_sending(tx, part, epoch=turn.epoch)
        assert outbox.parts(tx, turn.id)[0].state == "sending"
        for state in ("sent", "failed", "unknown", "withdrawn"):
            tx.execute(tables.outbound_messages.update().values(state=state))
            assert not outbox.start_sending(tx, part, epoch=turn.epoch)
            assert outbox.parts(tx, turn.id)[0].state == state


def test_part_that_is_sent_a_second_time_keeps_the_moment_of_the_first(database: Database, turn: Turn) -> None:
    with database.write() as tx:
        outbox.add_reply(tx, turn, ["Yes."], Author.ASSISTANT)
        (part,) = outbox.parts(tx, turn.id)
        outbox.start_sending(tx, part, epoch=turn.epoch)
        tx.execute(tables.outbound_messages.update().values(sending_at=1000.5))

        assert outbox.start_sending(tx, part, epoch=turn.epoch)

        assert outbox.sending_since(tx, part) == 1000.5


def test_only_sids_of_our_own_are_known(database: Database, turn: Turn) -> None:
    with database.write() as tx:
        outbox.add_reply(tx, turn, ["Yes."], Author.ASSISTANT)
        (part,) = outbox.parts(tx, turn.id)
        outbox.sent(tx, turn, part, SentMessage(sid="SM1", status="queued"))

        assert outbox.known_sids(tx, ["SM1", "SM2"]) == {"SM1"}
        assert outbox.known_sids(tx, []) == set()


def test_part_of_an_older_epoch_is_withdrawn(database: Database, turn: Turn) -> None:
    with database.write() as tx:
        outbox.add_reply(tx, turn, ["Yes."], Author.ASSISTANT)
        (part,) = outbox.parts(tx, turn.id)
        assert not outbox.start_sending(tx, part, epoch=turn.epoch + 1)
        assert outbox.parts(tx, turn.id)[0].state == "withdrawn"
        assert not outbox.start_sending(tx, part, epoch=turn.epoch)


def test_sent_part_has_its_sid_and_moves_the_conversation_up(database: Database, turn: Turn) -> None:
    with database.write() as tx:
        outbox.add_reply(tx, turn, ["Yes."], Author.ASSISTANT)
        (part,) = outbox.parts(tx, turn.id)
        tx.execute(tables.business_clients.update().values(last_message_at=1.0))
        outbox.not_sent(tx, part, PartState.READY, "20429")
        outbox.sent(tx, turn, part, SentMessage(sid="SMout", status="queued"))

    with database.read() as tx:
        (sent,) = outbox.replies_to(tx, "SM1")
        assert (sent.state, sent.sid, sent.error_code) == ("sent", "SMout", None)
        assert outbox.replies_to(tx, "SM2") == []
        assert (conversations.summary(tx, turn.conversation.id).last_message_at or 0) > 1.0


def test_reason_of_a_failure_is_kept_however_long_a_vendor_makes_it(database: Database, turn: Turn) -> None:
    with database.write() as tx:
        outbox.add_reply(tx, turn, ["Yes."], Author.ASSISTANT)
        (part,) = outbox.parts(tx, turn.id)
        outbox.not_sent(tx, part, PartState.FAILED, "x" * 500)

    with database.read() as tx:
        assert outbox.parts(tx, turn.id)[0].error_code == "x" * 60


def test_part_that_has_left_stays_sent_whatever_a_later_attempt_met(database: Database, turn: Turn) -> None:
    with database.write() as tx:
        outbox.add_reply(tx, turn, ["Yes."], Author.ASSISTANT)
        (part,) = outbox.parts(tx, turn.id)
        outbox.start_sending(tx, part, epoch=turn.epoch)
        assert not outbox.has_left(tx, part)
        outbox.sent(tx, turn, part, SentMessage(sid="SMout", status="queued"))

        outbox.not_sent(tx, part, PartState.READY, "20429")

        assert outbox.has_left(tx, part)


def test_nobody_knows_of_a_part_that_was_leaving_when_its_turn_ended(database: Database, turn: Turn) -> None:
    with database.write() as tx:
        outbox.add_reply(tx, turn, ["one", "two"], Author.ASSISTANT)
        outbox.start_sending(tx, outbox.parts(tx, turn.id)[0], epoch=turn.epoch)

        outbox.close(tx, turn.id, PartState.FAILED)

        assert [part.state for part in outbox.parts(tx, turn.id)] == ["unknown", "failed"]


def test_what_has_not_left_when_a_turn_ends_never_leaves(database: Database, turn: Turn) -> None:
    with database.write() as tx:
        outbox.add_reply(tx, turn, ["one", "two", "three"], Author.ASSISTANT)
        first = outbox.parts(tx, turn.id)[0]
        outbox.start_sending(tx, first, epoch=turn.epoch)
        outbox.sent(tx, turn, first, SentMessage(sid="SMout", status="queued"))
        outbox.close(tx, turn.id, PartState.WITHDRAWN)

    with database.read() as tx:
        assert [part.state for part in outbox.parts(tx, turn.id)] == ["sent", "withdrawn", "withdrawn"]


# the timeline


def test_timeline_keeps_kinds_in_order_with_their_times(database: Database, turn: Turn) -> None:
    with database.write() as tx:
        events.record(tx, turn.conversation.id, "asked", turn_id=turn.id, detail={"backend": "openai"})

    kinds = [row.kind for row in store.rows(database, tables.events)]
    assert kinds == ["received", "turn_opened", "asked"]
    with database.read() as tx:
        (at,) = events.times(tx, turn.conversation.id, "asked")
        assert abs(at - (tx.scalar(tables.business_clients.select().with_only_columns(now())) or 0)) < 60


# the Slack outbox


def owe(database: Database, bakery: Business, conversation_id: int, text: str, lane: str | None = None) -> None:
    with database.write() as tx:
        slack_posts.owe(
            tx,
            conversation_id=conversation_id,
            lane=lane or slack_posts.lane_of(bakery, conversation_id, Layout.CHANNEL),
            kind="reply",
            title="Assistant",
            text=text,
        )


def claim(database: Database, *busy: str, seconds: float = 60.0, lane: str | None = None) -> OwedPost | None:
    """The oldest that is due, as a poster claims it: found in one transaction, claimed in another."""
    with database.read() as tx:
        found = (
            slack_posts.due(tx, limit=1, busy_lanes=frozenset(busy)) if lane is None else [slack_posts.due_in(tx, lane)]
        )
    if not found or found[0] is None:
        return None
    with database.write() as tx:
        return slack_posts.claim(tx, found[0], lease_seconds=seconds)


@pytest.fixture
def lanes(database: Database, bakery: Business) -> tuple[int, int]:
    """Two conversations that owe Slack two posts each."""
    one = take(database, bakery).conversation_id
    two = take(database, bakery, sender="whatsapp:+15552220001").conversation_id
    for conversation_id in (one, two):
        owe(database, bakery, conversation_id, f"first of {conversation_id}")
        owe(database, bakery, conversation_id, f"second of {conversation_id}")
    return one, two


def test_lane_is_the_slack_channel(database: Database, bakery: Business) -> None:
    assert slack_posts.lane_of(bakery, 7, Layout.CHANNEL) == "c7"
    assert slack_posts.lane_of(bakery, 7, Layout.THREAD) == f"b{bakery.id}"
    with database.write() as tx:
        own = businesses.change(tx, bakery, {"slack_layout": "thread"})
    assert slack_posts.lane_of(own, 7, Layout.CHANNEL) == f"b{bakery.id}"


def test_lanes_go_side_by_side_and_each_in_order(database: Database, lanes: tuple[int, int]) -> None:
    one, two = lanes
    first, other = claim(database), claim(database)
    assert first is not None and other is not None
    assert (first.text, other.text) == (f"first of {one}", f"first of {two}")
    assert claim(database) is None, "what follows waits for what is under way"

    with database.write() as tx:
        slack_posts.posted(tx, first, "17.1")

    following = claim(database)
    assert following is not None
    assert following.text == f"second of {one}"


def test_what_stands_behind_a_post_waits_out_its_channels_pace_whoever_posts_it(
    database: Database, lanes: tuple[int, int]
) -> None:
    one, two = lanes
    post = claim(database, lane=f"c{one}")
    assert post is not None

    with database.write() as tx:
        slack_posts.posted(tx, post, "17.1", pace=3600)

    with database.read() as tx:
        assert slack_posts.due_in(tx, f"c{one}") is None
        assert slack_posts.due_in(tx, f"c{two}") is not None, "another channel's pace is its own"


def test_pace_hurries_nothing_that_was_put_off_for_longer(database: Database, lanes: tuple[int, int]) -> None:
    one, _ = lanes
    post = claim(database, lane=f"c{one}")
    assert post is not None
    with database.write() as tx:
        behind = tables.slack_posts.c.id == post.id + 1
        tx.execute(tables.slack_posts.update().where(behind).values(next_at=now() + 3600))
        slack_posts.posted(tx, post, "17.1", pace=0.001)

    with database.read() as tx:
        assert slack_posts.due_in(tx, f"c{one}") is None


def test_of_many_posters_one_gets_a_post(database: Database, lanes: tuple[int, int]) -> None:
    together = threading.Barrier(12)

    def try_it(_: int) -> OwedPost | None:
        together.wait()
        return claim(database)

    with ThreadPoolExecutor(12) as pool:
        claimed = [post.text for post in pool.map(try_it, range(12)) if post is not None]

    assert len(claimed) == len(set(claimed))
    assert set(claimed) <= {f"first of {lane}" for lane in lanes}


def test_a_look_finds_the_first_of_each_lane_oldest_first(database: Database, lanes: tuple[int, int]) -> None:
    rows = store.rows(database, tables.slack_posts)
    first_of = [next(row.id for row in rows if row.lane == f"c{lane}") for lane in lanes]

    with database.read() as tx:
        assert slack_posts.due(tx, limit=9) == first_of
        assert slack_posts.due(tx, limit=1) == first_of[:1]


def test_post_found_a_while_ago_is_claimed_only_if_it_is_still_its_turn(
    database: Database, lanes: tuple[int, int]
) -> None:
    """Between the look and the claim, another process may have had it, or put it off."""
    with database.read() as tx:
        one, two = slack_posts.due(tx, limit=9)
    second = next(row.id for row in store.rows(database, tables.slack_posts) if row.text == f"second of {lanes[0]}")
    taken, other = claim(database), claim(database)
    assert taken is not None and other is not None

    with database.write() as tx:
        assert slack_posts.claim(tx, one, lease_seconds=60) is None, "under way elsewhere"
        assert slack_posts.claim(tx, second, lease_seconds=60) is None, "not the first of its lane"
        slack_posts.put_off(tx, other, 60, "ratelimited")
        assert slack_posts.claim(tx, two, lease_seconds=60) is None, "put off"
        slack_posts.posted(tx, taken, "17.1")
        assert slack_posts.claim(tx, one, lease_seconds=60) is None, "posted"
        assert slack_posts.claim(tx, second, lease_seconds=60) is not None, "first by now"


def test_look_and_claim_go_through_the_index_of_what_is_owed(database: Database, lanes: tuple[int, int]) -> None:
    """However many rows there are: a claim holds SQLite's one write lock."""
    asked: list[tuple[str, Any]] = []

    def listener(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", listener)
    assert claim(database) is not None
    event.remove(Engine, "before_cursor_execute", listener)

    plans = []
    with database.write() as tx:
        if not database.is_sqlite:
            tx.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        for statement, parameters in asked:
            if "slack_posts" in statement:
                steps = tx.exec_driver_sql(explain + statement, parameters).all()
                plans.append("\n".join(str(step[-1]) for step in steps))
    assert len(plans) == 2
    for plan in plans:
        assert "ix_slack_posts_owed" in plan
        assert not re.search(r"SCAN (slack_posts|before)|Seq Scan on slack_posts", plan)


def test_busy_lane_is_passed_over(database: Database, lanes: tuple[int, int]) -> None:
    one, two = lanes
    with database.read() as tx:
        assert slack_posts.due(tx, limit=9, busy_lanes=frozenset({f"c{one}", f"c{two}"})) == []

    post = claim(database, f"c{one}")

    assert post is not None
    assert post.conversation_id == two


def test_one_lane_can_be_asked_for(database: Database, lanes: tuple[int, int]) -> None:
    _, two = lanes

    post = claim(database, lane=f"c{two}")

    assert post is not None
    assert post.text == f"first of {two}"
    assert claim(database, lane=f"c{two}") is None
    with database.read() as tx:
        assert len(slack_posts.due(tx, limit=9)) == 1, "another lane's"


def test_post_that_is_put_off_holds_its_lane_until_it_is_due_again(database: Database, lanes: tuple[int, int]) -> None:
    one, two = lanes
    post = claim(database, f"c{two}")
    assert post is not None
    with database.write() as tx:
        slack_posts.put_off(tx, post, 60, "ratelimited")
        assert slack_posts.next_lane(tx, conversation_id=one) == f"c{one}"
    assert claim(database, f"c{two}") is None

    with database.write() as tx:
        tx.execute(tables.slack_posts.update().values(next_at=now() - 1))

    again = claim(database, f"c{two}")
    assert again is not None
    assert (again.id, again.attempts) == (post.id, 2)


def test_wait_that_is_no_attempt_is_not_counted(database: Database, lanes: tuple[int, int]) -> None:
    post = claim(database)
    assert post is not None
    assert (post.attempts, abs(post.age) < 60) == (1, True)
    with database.write() as tx:
        slack_posts.put_off(tx, post, 0, "ratelimited", is_attempt=False)

    again = claim(database)

    assert again is not None
    assert (again.id, again.attempts) == (post.id, 1)


def test_dead_letter_lets_its_lane_go_on(database: Database, lanes: tuple[int, int]) -> None:
    one, two = lanes
    post = claim(database, f"c{two}")
    assert post is not None
    with database.write() as tx:
        slack_posts.give_up(tx, post, "invalid_blocks" * 10)

    following = claim(database, f"c{two}")

    assert following is not None
    assert following.text == f"second of {one}"
    with database.write() as tx:
        slack_posts.posted(tx, following, "17.2")
        assert slack_posts.next_lane(tx, conversation_id=one) is None


def test_post_of_a_poster_that_died_is_posted_by_another(database: Database, lanes: tuple[int, int]) -> None:
    _, two = lanes
    post = claim(database, f"c{two}", seconds=-1)

    again = claim(database, f"c{two}")

    assert post is not None and again is not None
    assert again.id == post.id


def test_poster_that_was_frozen_past_its_lease_decides_nothing_any_more(
    database: Database, lanes: tuple[int, int]
) -> None:
    frozen = claim(database, seconds=-1)
    heir = claim(database)
    assert frozen is not None and heir is not None and frozen.id == heir.id
    with database.write() as tx:
        assert (slack_posts.is_held(tx, frozen), slack_posts.is_held(tx, heir)) == (False, True)
        slack_posts.put_off(tx, frozen, 0, "timeout")
        assert slack_posts.claim(tx, heir.id, lease_seconds=60) is None, "the heir is at it"
        slack_posts.posted(tx, heir, "17.1")
        slack_posts.put_off(tx, frozen, 0, "timeout")
        slack_posts.give_up(tx, frozen, "invalid_blocks")
    row = next(row for row in store.rows(database, tables.slack_posts) if row.id == heir.id)
    assert (row.state, row.ts, row.error_code) == ("posted", "17.1", None)
