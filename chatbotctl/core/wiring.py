"""Settings -> Core: the only place that chooses adapters. Used by commands and, through them, by the server.

Nothing connects anywhere yet and no SDK is loaded: adapters do that on first use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from cachetools import LRUCache

from chatbotctl.core import secret_key
from chatbotctl.core.adapters.console import ConsoleMessenger
from chatbotctl.core.adapters.google_translate import GoogleTranslate
from chatbotctl.core.adapters.huey_wakeup import HueyWakeup
from chatbotctl.core.adapters.knowledge_base import KnowledgeBase
from chatbotctl.core.adapters.local_wakeup import LocalWakeup
from chatbotctl.core.adapters.memory_cache import MemoryCache
from chatbotctl.core.adapters.openai_chat import OpenAIChat
from chatbotctl.core.adapters.openai_responses import OpenAIResponses
from chatbotctl.core.adapters.openai_threads import OpenAIThreads
from chatbotctl.core.adapters.openai_vector_stores import OpenAIVectorStores
from chatbotctl.core.adapters.redis_cache import RedisCache
from chatbotctl.core.adapters.slack_channel import SlackChannel
from chatbotctl.core.adapters.twilio_signature import TwilioSignature
from chatbotctl.core.adapters.twilio_whatsapp import TwilioWhatsApp
from chatbotctl.core.config import Loaded
from chatbotctl.core.errors import ConfigurationError
from chatbotctl.core.flow.services import Services
from chatbotctl.core.metrics import Metrics
from chatbotctl.core.ports import Assistant, KnowledgeStore, Messenger, Mirror, SignatureCheck, ThreadCache, Wakeup
from chatbotctl.core.records.business import Backend, Business
from chatbotctl.core.records.delivery import STATUS_PATH
from chatbotctl.core.settings import Settings
from chatbotctl.core.storage import businesses, knowledge
from chatbotctl.core.storage.credentials import Vault
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.upkeep.vitals import Vitals

#: Clients kept, of all vendors together: one for the install and one for each business with credentials of its own.
MOST_CLIENTS = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class TwilioAccount:
    """What it takes to send by an account and to check its signatures."""

    sid: str
    token: str


class Core:
    """Everything that a command or the server works with. Safe to share between threads; `close` it at the end.

    Arguments:
        loaded: the settings, and where the install lives.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.settings: Settings = loaded.settings
        self.database = Database(loaded.database_url, pool_size=self.settings.database.pool_size)
        self._show: Callable[[str], None] | None = None
        self._console = ConsoleMessenger(lambda text: self._show(text) if self._show else None)
        self._lock = threading.Lock()
        self._clients: LRUCache[object, object] = LRUCache(MOST_CLIENTS)
        metrics = Metrics()
        self.services = Services(
            database=self.database,
            settings=self.settings,
            cache=self._cache(metrics),
            cache_is_shared=self.settings.redis.url is not None,
            wakeup=self._wakeup(),
            assistant_of=self.assistant_of,
            messenger_of=self.messenger_of,
            console=self._console,
            mirror_of=self.mirror_of,
            translator=self._translator(),
            metrics=metrics,
        )

    @cached_property
    def vault(self) -> Vault:
        """What opens businesses' credentials. Raises SecretKeyError."""
        return Vault(secret_key.load(self.loaded.home))

    def print_unsent(self, show: Callable[[str], None]) -> None:
        """Show what cannot be sent for want of any Twilio account, and what is simulated: this install is tried out.

        Otherwise sending without an account is a ConfigurationError, and simulated messages are shown by nobody but
        `simulate` itself.
        """
        self._show = show

    def has_auth_token(self) -> bool:
        """Whether the install, or any business, has a Twilio auth token: then it is for real."""
        if self.settings.twilio.auth_token is not None:
            return True
        with self.database.read() as tx:
            return any("twilio" in business.own_credentials for business in businesses.listed(tx))

    def is_tried_out(self) -> bool:
        """Whether there is neither a Twilio account nor any auth token: nothing can be sent, so it may be printed."""
        return not (self.has_auth_token() or self.settings.twilio.account_sid)

    def assistant_of(self, business: Business) -> Assistant:
        """The business's own assistant, ready to be asked. Raises AssistantNotUsable or SecretKeyError."""
        assistant = self._assistant(business)
        assistant.check(business=business)
        return assistant

    def messenger_of(self, business: Business) -> Messenger:
        """Sends as the business: by its own account, or the install's. Raises ConfigurationError."""
        account = self._twilio_account(business)
        if account is None:
            if self._show is not None and not self.settings.twilio.account_sid:
                return self._console
            raise ConfigurationError(
                "There is no Twilio account to send by.",
                hint="Set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or give the business its own with "
                f"`chatbotctl business credentials set {business.name} twilio`.",
            )
        twilio = self.settings.twilio
        return self._client(
            ("twilio", account),
            lambda: TwilioWhatsApp(
                account_sid=account.sid,
                auth_token=account.token,
                api_base_url=twilio.api_base_url,
                timeout_seconds=twilio.timeout_seconds,
                status_callback=self._status_callback,
            ),
        )

    @property
    def _status_callback(self) -> str | None:
        """Where Twilio tells what becomes of a message: this install's own address, where it is known and wanted."""
        public_url = self.settings.server.public_url
        return f"{public_url}{STATUS_PATH}" if public_url and self.settings.twilio.status_callbacks else None

    def mirror_of(self, business: Business) -> Mirror | None:
        """The business's Slack workspace, or the install's; None when there is none. Raises SecretKeyError."""
        slack = self.settings.slack
        token = self._own_secret(business, "slack")
        if token is None and slack.bot_token is not None:
            token = slack.bot_token.get_secret_value()
        if token is None:
            return None
        return self._client(
            ("slack", token),
            lambda: SlackChannel(
                bot_token=token,
                api_base_url=slack.api_base_url,
                private=slack.private,
                timeout_seconds=slack.timeout_seconds,
            ),
        )

    def business_at(self, address: str) -> Business | None:
        """The business that customers reach at `address`, or None. Raises StorageUnavailable."""
        with self.database.read() as tx:
            return businesses.find_by_address(tx, address)

    def signature_check(self, business: Business | None) -> SignatureCheck | None:
        """What checks a webhook that says it is for `business`; None: there is no auth token to check with.

        A business with a Twilio account of its own is signed for with that account's token, and with no other: so one
        tenant cannot speak for another. Raises StorageUnavailable or SecretKeyError.
        """
        if business is not None and "twilio" in business.own_credentials:
            account = self._twilio_account(business)
            return TwilioSignature(account.token) if account else None
        token = self.settings.twilio.auth_token
        return TwilioSignature(token.get_secret_value()) if token is not None else None

    def knowledge_store_of(self, business: Business) -> KnowledgeStore:
        """Where the business's files are searched by its `openai` assistant. Raises SecretKeyError."""
        key, base_url = self._openai(business)
        return OpenAIVectorStores(api_key=key, base_url=base_url)

    def cache_latency(self) -> float | None:
        """Milliseconds that Redis takes to answer, asked now; None when it does not, or when there is none."""
        cache = self.services.cache
        return cache.ping() if isinstance(cache, RedisCache) else None

    def make_vitals(self) -> Vitals:
        """How a process with this core stands: one for all that it serves."""
        return Vitals(self.database, ask_redis=self.cache_latency if self.settings.redis.url is not None else None)

    @contextmanager
    def strict_cache(self) -> Iterator[ThreadCache]:
        """The thread cache for upkeep, while the block lasts: an unreachable Redis is an error (OutsideError) there.

        Raises ConfigurationError without a Redis: another process's in-process cache cannot be reached from here.
        """
        redis = self.settings.redis
        if redis.url is None:
            raise ConfigurationError(
                "The thread cache is inside the server's process: there is nothing to look at or rebuild from here.",
                hint="Set redis.url (REDIS_URL) to share a cache; without one the server fills its own from the "
                "database as messages come.",
            )
        with closing(RedisCache(redis.url.get_secret_value(), redis.timeout_seconds, strict=True)) as cache:
            yield cache

    def shared_cache(self) -> AbstractContextManager[ThreadCache] | None:
        """The strict cache when there is one that other processes share, not opened yet; else None."""
        return self.strict_cache() if self.services.cache_is_shared else None

    def close(self) -> None:
        """Close what is open."""
        self.services.wakeup.close()
        with self._lock:
            clients = [*self._clients.values(), self.services.cache]
            self._clients.clear()
        for client in clients:
            close = getattr(client, "close", None)
            if close is not None:
                close()
        self.database.close()

    def _cache(self, metrics: Metrics) -> ThreadCache:
        redis = self.settings.redis
        if redis.url is None:
            return MemoryCache(metrics=metrics)
        return RedisCache(redis.url.get_secret_value(), redis.timeout_seconds, metrics=metrics)

    def _wakeup(self) -> Wakeup:
        redis = self.settings.redis
        if redis.url is None:
            return LocalWakeup()
        return HueyWakeup(redis.url.get_secret_value(), redis.timeout_seconds, install=self.database.identity)

    def _translator(self) -> GoogleTranslate | None:
        translate = self.settings.translate
        if not translate.enabled:
            return None
        return GoogleTranslate(
            endpoint=translate.endpoint,
            credentials_file=translate.credentials_file,
            timeout_seconds=translate.timeout_seconds,
        )

    def _assistant(self, business: Business) -> Assistant:
        if business.backend is Backend.KNOWLEDGE:
            return self._client("knowledge", self._knowledge_base)
        key, base_url = self._openai(business)
        model = self.settings.openai.model
        if business.backend is Backend.THREADS:
            server = business.base_url or self.settings.openai.beta_base_url
            return self._client(("threads", key, server), lambda: OpenAIThreads(api_key=key, base_url=server))
        if business.backend is Backend.CHAT:
            return self._client(
                ("chat", key, base_url),
                lambda: OpenAIChat(api_key=key, base_url=base_url, default_model=model),
            )
        return self._client(
            ("openai", key, base_url),
            lambda: OpenAIResponses(api_key=key, base_url=base_url, default_model=model),
        )

    def _openai(self, business: Business) -> tuple[str | None, str | None]:
        """The business's key and base URL; each is the install's where it has none of its own."""
        openai = self.settings.openai
        key = self._own_secret(business, "openai")
        if key is None and openai.api_key is not None:
            key = openai.api_key.get_secret_value()
        return key, business.base_url or openai.base_url

    def _knowledge_base(self) -> KnowledgeBase:
        def texts(business: Business) -> list[tuple[str, str]]:
            with self.database.read() as tx:
                return knowledge.texts(tx, business)

        def version(business: Business) -> str:
            with self.database.read() as tx:
                return knowledge.version(tx, business)

        return KnowledgeBase(files_of=texts, version_of=version)

    def _twilio_account(self, business: Business) -> TwilioAccount | None:
        """The account that a business sends by and is called from: its own, or the install's. Raises SecretKeyError."""
        own = self._own_secret(business, "twilio")
        if own is not None:
            sid, _, token = own.partition(":")
            return TwilioAccount(sid.strip(), token.strip())
        twilio = self.settings.twilio
        if not twilio.account_sid or twilio.auth_token is None:
            return None
        return TwilioAccount(twilio.account_sid, twilio.auth_token.get_secret_value())

    def _own_secret(self, business: Business, provider: str) -> str | None:
        if provider not in business.own_credentials:
            return None
        with self.database.read() as tx:
            return self.vault.secret(tx, business.id, provider)

    def _client(self, key: object, make: Callable[[], T]) -> T:
        """The one client for `key`. What falls out of the cache closes its connections when nobody uses it any more."""
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                client = self._clients[key] = make()
        return client  # type: ignore[return-value]
