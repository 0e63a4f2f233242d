"""What can be set: a class per section of config.toml, with defaults and limits. Where values come from: config.py.

docs/settings.md describes every key; a test keeps the two in step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from chatbotctl.core.setting_values import ChannelName, Language, Networks, SlackApi, WebAddress


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ServerSettings(_Section):
    """The webhook server."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    threads: int = Field(16, ge=2, le=512)
    public_url: WebAddress | None = None
    trusted_proxies: Networks = ()
    verify_signatures: bool = True
    reply_wait_seconds: float = Field(10.0, ge=0, le=14)
    max_waiting: int | None = Field(None, ge=0)
    drain_seconds: float = Field(25.0, ge=0, le=3600)

    @field_validator("public_url")
    @classmethod
    def _without_last_slash(cls, value: str | None) -> str | None:
        return value and value.rstrip("/")

    @property
    def waiting_requests(self) -> int:
        """How many requests may wait for a reply at once; half of the threads unless set."""
        return self.threads // 2 if self.max_waiting is None else self.max_waiting


class DatabaseSettings(_Section):
    """Where the truth is kept; unset: SQLite in CHATBOTCTL_HOME."""

    url: SecretStr | None = None
    pool_size: int = Field(20, ge=2, le=1000)


class RedisSettings(_Section):
    """The thread cache and wake-ups between processes; unset: both inside the process."""

    url: SecretStr | None = None
    timeout_seconds: float = Field(0.25, gt=0, le=5)


class TwilioSettings(_Section):
    """The account that businesses without their own Twilio credentials send by."""

    account_sid: str | None = None
    auth_token: SecretStr | None = None
    api_base_url: WebAddress | None = None
    timeout_seconds: float = Field(10.0, gt=0, le=3600)
    attempts: int = Field(3, ge=1, le=10)
    lookup_wait_seconds: float = Field(3.0, ge=0, le=60)
    answer: Literal["json", "twiml"] = "json"
    status_callbacks: bool = True


class OpenAISettings(_Section):
    """The AI provider for businesses without their own key, base URL or model."""

    api_key: SecretStr | None = None
    base_url: WebAddress | None = None
    beta_base_url: WebAddress | None = None
    model: str | None = None
    timeout_seconds: float = Field(30.0, gt=0, le=3600)
    attempts: int = Field(3, ge=1, le=10)
    turn_deadline_seconds: float = Field(60.0, gt=0, le=3600)
    history_turns: int = Field(20, ge=0, le=200)


class SlackSettings(_Section):
    """The workspace that conversations are mirrored to; no bot_token: no mirror."""

    bot_token: SecretStr | None = None
    api_base_url: SlackApi | None = None
    layout: Literal["channel", "thread"] = "channel"
    channel_name_template: ChannelName = "thread-{thread_id}"
    private: bool = True
    timeout_seconds: float = Field(10.0, gt=0, le=3600)
    posts_per_second: float = Field(1.0, gt=0)


class TranslateSettings(_Section):
    """Google Translate, off by default."""

    enabled: bool = False
    assistant: bool = False
    target_language: Language | None = None
    endpoint: WebAddress | None = None
    credentials_file: Path | None = None
    timeout_seconds: float = Field(3.0, gt=0, le=3600)


class LimitsSettings(_Section):
    """What a customer's message may be."""

    max_message_chars: int = Field(1600, ge=1, le=65536)


class LogSettings(_Section):
    """What is logged, and how it is written."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class WorkerSettings(_Section):
    """Turns in flight and the burst window."""

    concurrency: int = Field(64, ge=1, le=2000)
    quiet_seconds: float = Field(1.0, ge=0, le=60)
    max_wait_seconds: float = Field(5.0, ge=0, le=300)
    lease_seconds: float = Field(15.0, ge=1, le=3600)
    sweep_seconds: float = Field(1.0, gt=0, le=60)
    attempts: int = Field(5, ge=1, le=50)
    business_share: float = Field(0.75, gt=0, le=1)


class MetricsSettings(_Section):
    """Prometheus metrics on an address of their own; no port: none are served."""

    host: str = "127.0.0.1"
    port: int | None = Field(None, ge=0, le=65535)


class RepliesSettings(_Section):
    """Lines of our own that a customer may read."""

    apology: str = "Sorry, something went wrong on our side and we could not answer. Please try again in a few minutes."
    text_only: str = "Thanks for your message! For now we can only read text here, so please write to us in words."


class Settings(_Section):
    """Everything that can be set. Frozen; made by `load`.

    No BaseSettings: that one would look into the environment by itself, for names such as LOG and SERVER.
    """

    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    twilio: TwilioSettings = TwilioSettings()
    openai: OpenAISettings = OpenAISettings()
    slack: SlackSettings = SlackSettings()
    translate: TranslateSettings = TranslateSettings()
    limits: LimitsSettings = LimitsSettings()
    log: LogSettings = LogSettings()
    worker: WorkerSettings = WorkerSettings()
    metrics: MetricsSettings = MetricsSettings()
    replies: RepliesSettings = RepliesSettings()
