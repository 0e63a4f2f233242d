"""What a message's path works with: the database, the settings, and the outside world behind its ports.

Made by core.wiring (or by a test); every step of the flow takes it as its first argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from chatbotctl.core.flow.turnstile import Turnstile
from chatbotctl.core.flow.waiting import Waiters
from chatbotctl.core.metrics import Metrics
from chatbotctl.core.ports import Assistant, Messenger, Mirror, ThreadCache, Translator, Wakeup
from chatbotctl.core.records.business import Business, Layout
from chatbotctl.core.settings import Settings
from chatbotctl.core.storage.engine import Database


@dataclass(frozen=True, kw_only=True)
class Services:
    """The flow's surroundings."""

    database: Database
    settings: Settings
    cache: ThreadCache
    #: Whether others write to the cache too, so that it may know what the database does not.
    cache_is_shared: bool
    wakeup: Wakeup
    #: The business's own assistant. Raises AssistantNotUsable, saying what is missing, or SecretKeyError.
    assistant_of: Callable[[Business], Assistant]
    #: Sends as the business. Raises ConfigurationError (SecretKeyError too) when there is no account to send by.
    messenger_of: Callable[[Business], Messenger]
    #: Prints instead of sending: the only messenger that simulated messages ever meet.
    console: Messenger
    #: The business's Slack workspace; None: it has none. Raises SecretKeyError.
    mirror_of: Callable[[Business], Mirror | None]
    #: None: translation is off.
    translator: Translator | None
    waiters: Waiters = field(default_factory=Waiters)
    turnstile: Turnstile = field(default_factory=Turnstile)
    metrics: Metrics = field(default_factory=Metrics)

    def is_mirrored(self, business: Business) -> bool:
        """Whether the business has a Slack workspace. Opens no secret: the customer's path asks."""
        return "slack" in business.own_credentials or self.settings.slack.bot_token is not None

    @property
    def default_layout(self) -> Layout:
        """The Slack layout of businesses that set none."""
        return Layout(self.settings.slack.layout)

    def working_language(self, business: Business) -> str | None:
        """The language that a business's people and assistant work in, when translation is on for it."""
        if self.translator is None:
            return None
        return business.language or self.settings.translate.target_language

    def assistant_language(self, business: Business) -> str | None:
        """The language that a business's assistant is asked in; None: in the customer's own words."""
        return self.working_language(business) if self.settings.translate.assistant else None
