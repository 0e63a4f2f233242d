"""Where in Slack a conversation stands; made on its first post: a channel, or a Slack thread in its business's channel.

Called by slack_poster, which posts to one lane at a time: so a conversation's place is made once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from chatbotctl.core.addresses import bare, named
from chatbotctl.core.errors import LeaseLost, MirrorError
from chatbotctl.core.flow.keep_writing import keep_writing
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import note
from chatbotctl.core.ports import Mirror
from chatbotctl.core.records.business import Business, Layout
from chatbotctl.core.records.conversation import Conversation
from chatbotctl.core.records.slack import OwedPost, Place, Post
from chatbotctl.core.storage import businesses, conversations, slack_posts

#: Seconds from when its first post was owed that a channel waits for the AI thread that it is to be named after.
NAME_SECONDS = 5.0
#: Why a post waits for that; nothing is wrong meanwhile.
NO_THREAD_YET = "no_thread_yet"
#: Calls to Slack that making a place and posting to it takes, a few of them tried anew.
CALLS = 6


@dataclass(frozen=True, slots=True)
class Standing:
    """A conversation in Slack, with whom it belongs to."""

    mirror: Mirror
    place: Place
    business: Business
    conversation: Conversation


def lease_seconds(services: Services) -> float:
    """Seconds that a claimed post is left to its poster: what the calls take when Slack is slow, and little more."""
    return max(30.0, CALLS * services.settings.slack.timeout_seconds)


def find_or_make(services: Services, owed: OwedPost) -> Standing:
    """The place of a post's conversation. Raises MirrorError, ConfigurationError, NotFoundError or LeaseLost."""
    with services.database.read() as tx:
        conversation = conversations.get(tx, owed.conversation_id)
        business = businesses.get(tx, conversation.business_id)
    note(business=business.name)
    mirror = services.mirror_of(business)
    if mirror is None:
        raise MirrorError(
            "There is no Slack workspace to post to.",
            reason="not_configured",
            retryable=True,
            retry_after=300.0,
            hint="Set slack.bot_token (SLACK_BOT_TOKEN).",
        )
    if slack_posts.layout_of(owed) is Layout.THREAD:
        place = _thread(services, mirror, business, conversation, owed)
    elif conversation.slack_channel is not None and conversation.slack_thread_ts is None:
        place = Place(channel=conversation.slack_channel)
    else:
        place = _channel(services, mirror, business, conversation, owed)
    return Standing(mirror, place, business, conversation)


def forget(services: Services, standing: Standing) -> None:
    """The channel is gone: the next post makes a new one."""
    with services.database.write() as tx:
        conversations.set_place(tx, standing.conversation.id, None, None)
        if standing.place.thread_ts is not None:
            businesses.set_slack_channel(tx, standing.business.id, None)


def _channel(
    services: Services, mirror: Mirror, business: Business, conversation: Conversation, owed: OwedPost
) -> Place:
    template = services.settings.slack.channel_name_template
    if conversation.ai_thread is None and "{thread_id}" in template and owed.age < NAME_SECONDS:
        # The customer's first line is owed before the assistant was asked; a moment later there is a thread.
        raise MirrorError("The AI thread is not there yet.", reason=NO_THREAD_YET, retryable=True, retry_after=0.5)
    name = template.format(
        thread_id=conversation.ai_thread or str(conversation.id),
        business=business.name,
        # Without the +, which no channel name takes: it would show as a dash.
        number=bare(business.whatsapp_address).removeprefix("+"),
        customer=bare(conversation.client_address).removeprefix("+"),
    )
    channel = mirror.open_channel(name=name, topic=_topic(business, conversation), invite=business.slack_user_ids)
    _write_down(services, owed, lambda tx: conversations.set_place(tx, conversation.id, channel, None))
    return Place(channel=channel)


def _thread(
    services: Services, mirror: Mirror, business: Business, conversation: Conversation, owed: OwedPost
) -> Place:
    channel = business.slack_channel or _business_channel(services, mirror, business, owed)
    if conversation.slack_thread_ts is not None and conversation.slack_channel == channel:
        return Place(channel=channel, thread_ts=conversation.slack_thread_ts)
    head = Post(title="Conversation", text=_topic(business, conversation))
    try:
        ts = mirror.post(place=Place(channel=channel), post=head)
    except MirrorError as error:
        if error.reason != "channel_gone":
            raise
        with services.database.write() as tx:
            businesses.set_slack_channel(tx, business.id, None)
        # The next attempt makes a new channel: what is owed is no dead letter.
        raise MirrorError(error.message, reason=error.reason, retryable=True) from error
    _write_down(services, owed, lambda tx: conversations.set_place(tx, conversation.id, channel, ts))
    return Place(channel=channel, thread_ts=ts)


def _business_channel(services: Services, mirror: Mirror, business: Business, owed: OwedPost) -> str:
    topic = f"{business.name}: WhatsApp conversations of {bare(business.whatsapp_address)}"
    channel = mirror.open_channel(name=business.name, topic=topic, invite=business.slack_user_ids)
    _write_down(services, owed, lambda tx: businesses.set_slack_channel(tx, business.id, channel))
    return channel


def _write_down(services: Services, owed: OwedPost, write: Callable[[Connection], None]) -> None:
    """Note where the conversation stands from now on; kept trying, for nobody would find the place again otherwise.

    Raises LeaseLost when another poster has taken the post over: it has made a place of its own, and posted to it.
    """

    def note(tx: Connection) -> None:
        if not slack_posts.is_held(tx, owed):
            raise LeaseLost
        write(tx)

    keep_writing(services.database, note, seconds=lease_seconds(services))


def _topic(business: Business, conversation: Conversation) -> str:
    return f"{business.name}: {named(conversation.profile_name, conversation.client_address)}"
