"""`config show` and `config validate`: every setting, where it comes from, and no secret in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatbotctl.commands.config import mask_secret, mask_url
from chatbotctl.core.settings import Settings
from tests.cli import chatbotctl

SECRETS = {
    "OPENAI_API_KEY": "sk-canary-openai",
    "SLACK_BOT_TOKEN": "xoxb-canary-slack",
    "TWILIO_AUTH_TOKEN": "0123456789canary",
    "DATABASE_URL": "postgresql://bot:canary@db.example/bot?sslpassword=canary2&sslmode=require",
    "REDIS_URL": "rediss://:canary@redis.example:6379/0",
    "OPENAI_BASE_URL": "https://user:canary@ai.example/v1",
}


def settings(*options: str) -> dict[str, Any]:
    """Key -> what `config show --json` has of it."""
    run = chatbotctl("config", "show", "--json", *options)
    assert run.code == 0, run.err
    assert all(list(one) == ["key", "value", "origin"] for one in run.json)
    return {one["key"]: one for one in run.json}


def test_every_setting_is_shown() -> None:
    shown = settings()
    expected = {f"{section}.{key}" for section, values in Settings() for key, _ in values}
    assert set(shown) == expected
    assert shown["server.port"] == {"key": "server.port", "value": 8080, "origin": "default"}
    assert shown["translate.enabled"]["value"] is False
    assert shown["server.trusted_proxies"]["value"] == []
    assert shown["twilio.auth_token"]["value"] is None


def test_origin_of_each_value_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("[server]\nport = 9000\nhost = '0.0.0.0'\n")
    (tmp_path / ".env").write_text("TARGET_LANGUAGE=de\n")
    monkeypatch.setenv("CHATBOTCTL_SERVER__PORT", "9001")
    shown = settings()
    assert (shown["server.port"]["value"], shown["server.port"]["origin"]) == (9001, "CHATBOTCTL_SERVER__PORT")
    assert (shown["server.host"]["value"], shown["server.host"]["origin"]) == ("0.0.0.0", "config.toml")
    assert shown["translate.target_language"]["origin"] == ".env: TARGET_LANGUAGE"
    rows = [line.split() for line in chatbotctl("config", "show", "--origin").out.splitlines()]
    assert rows[0] == ["SETTING", "VALUE", "ORIGIN"]
    assert ["server.port", "9001", "CHATBOTCTL_SERVER__PORT"] in rows
    assert ["server.threads", "16", "default"] in rows
    assert ["server.threads", "16"] in [line.split() for line in chatbotctl("config", "show").out.splitlines()]


def test_database_that_is_used_is_shown_although_none_is_set(tmp_path: Path) -> None:
    database = settings()["database.url"]
    assert database["value"] == f"sqlite:///{tmp_path / 'chatbotctl.db'}"
    assert database["origin"] == "default"


@pytest.mark.parametrize("options", [(), ("--origin",), ("--json",)])
def test_no_secret_is_shown_in_full(options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    run = chatbotctl("config", "show", *options)
    assert run.code == 0
    assert "canary" not in run.out + run.err
    for shown in ("sk-•••• (set)", "xoxb-•••• (set)", "bot:••••@db.example", "ai.example/v1"):
        assert shown in run.out


def test_values_are_shown_as_a_config_file_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATBOTCTL_SERVER__TRUSTED_PROXIES", '["10.0.0.1", "10.0.0.2"]')
    monkeypatch.setenv("CHATBOTCTL_TRANSLATE__CREDENTIALS_FILE", "/etc/google.json")
    Path("config.toml").write_text("[replies]\napology = ''\n")
    rows = [line.split(maxsplit=1) for line in chatbotctl("config", "show").out.splitlines()]
    shown = {key: value.strip() for key, value in rows}
    assert shown["server.trusted_proxies"] == "10.0.0.1, 10.0.0.2"
    assert shown["server.verify_signatures"] == "true"
    assert shown["translate.credentials_file"] == "/etc/google.json"
    assert shown["replies.apology"] == '""'
    assert shown["openai.model"] == "-"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:secret@localhost/0", "redis://:••••@localhost/0"),
        ("redis://name@localhost/0", "redis://name@localhost/0"),
        ("postgres://u:p@ss/w@rd@host/db", "postgres://u:••••@host/db"),
        ("postgres://host/db?password=secret&x=1", "postgres://host/db?password=••••&x=1"),
        ("https://host/v1?api_key=secret#top", "https://host/v1?api_key=••••#top"),
        ("unix://user:secret@/run/redis.sock?db=0", "unix://user:••••@/run/redis.sock?db=0"),
        ("secret", "•••• (set)"),
    ],
)
def test_urls_are_shown_without_what_is_secret_in_them(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("sk-proj-abcdef", "sk-•••• (set)"),
        ("xoxb-1-2-abc", "xoxb-•••• (set)"),
        ("0a1b2c3d", "•••• (set)"),
        ("correct-horse", "•••• (set)"),
        ("-", "•••• (set)"),
    ],
)
def test_secrets_are_shown_as_no_more_than_set(secret: str, shown: str) -> None:
    assert mask_secret(secret) == shown


# validate


def test_valid_settings_fit_and_the_file_is_named(tmp_path: Path) -> None:
    run = chatbotctl("config", "validate")
    assert (run.code, run.out) == (0, "Everything fits.\n")
    assert "no config file" in run.err
    path = tmp_path / "my.toml"
    path.write_text("[server]\nport = 9000\n")
    run = chatbotctl("--config", str(path), "config", "validate")
    assert (run.code, run.out) == (0, "Everything fits.\n")
    assert str(path) in run.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1\n", ["config.toml", "server.prot", "Did you mean `port`?"]),
        ("[servr]\nport = 1\n", ["config.toml", "[servr]", "Did you mean `server`?"]),
        ("[server]\nport = 'high'\n", ["config.toml", "server.port"]),
        ("[server]\nport = 70000\n", ["config.toml", "server.port", "65535"]),
        ("[server]\npublic_url = 'bot.example.com'\n", ["server.public_url", "https://"]),
        ("port = 1\n", ["config.toml", "port"]),
        ("[server\n", ["config.toml", "not valid TOML"]),
        ("[database]\nurl = 'mysql://localhost/bot'\n", ["database.url", "mysql"]),
        ("[redis]\nurl = 'localhost:6379'\n", ["redis.url"]),
        ("[openai]\napi_key = 17\n", ["config.toml", "openai.api_key"]),
    ],
)
def test_wrong_settings_are_named_with_what_is_allowed(text: str, words: list[str]) -> None:
    Path("config.toml").write_text(text)
    run = chatbotctl("config", "validate")
    assert run.code == 4
    assert run.out == ""
    for word in words:
        assert word in run.err


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CHATBOTCTL_SECRET_KEY": "canary"}, ["secret key is not usable", "chatbotctl init"]),
        (
            {
                "GOOGLE_APPLICATION_CREDENTIALS": "/nope",
                "CHATBOTCTL_TRANSLATE__ENABLED": "true",
                "TARGET_LANGUAGE": "de",
            },
            ["GOOGLE_APPLICATION_CREDENTIALS: translate.credentials_file: there is no file /nope"],
        ),
        ({"TARGET_LANGUAGE": "klingon"}, ["TARGET_LANGUAGE: translate.target_language: must be a language tag"]),
        ({"SLACK_API_BASE_URL": "https://slack.example"}, ["slack.api_base_url: must end in /api/"]),
        ({"CHATBOTCTL_OPENAI__TIMEOUT_SECONDS": "inf"}, ["openai.timeout_seconds: ", "finite"]),
        ({"CHATBOTCTL_WORKER__LEASE_SECONDS": "nan"}, ["worker.lease_seconds: ", "finite"]),
        ({"CHATBOTCTL_SERVER__TRUSTED_PROXIES": "proxy"}, ["server.trusted_proxies"]),
        ({"DATABASE_URL": "sqlite://"}, ["database.url names no file"]),
        ({"DATABASE_URL": "postgresql+asyncpg://u:canary@h/d"}, ["postgresql+asyncpg", "not installed"]),
        ({"CHATBOTCTL_SERVER_PORT": "1"}, ["Did you mean `CHATBOTCTL_SERVER__PORT`", "Try: Two underscores"]),
        ({"CHATBOTCTL_SERVR__PORT": "1"}, ["Did you mean `server`", "Try: docs/settings.md"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_variables_are_named(
    variables: dict[str, str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run = chatbotctl("config", "validate")
    assert (run.code, run.out) == (4, "")
    for word in words:
        assert word in run.err
    assert "canary" not in run.err


def test_key_file_that_others_can_read_is_named(tmp_path: Path) -> None:
    chatbotctl("init")
    (tmp_path / "secret.key").chmod(0o644)
    run = chatbotctl("config", "validate")
    assert run.code == 4
    assert "secret.key can be read by others" in run.err


def test_what_is_merely_odd_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nope")
    run = chatbotctl("config", "validate")
    assert (run.code, run.out) == (0, "Everything fits.\n")
    assert "there is no file /nope" in run.err
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CHATBOTCTL_TRANSLATE__ENABLED", "true")
    run = chatbotctl("config", "validate")
    assert (run.code, run.out) == (0, "Everything fits.\n")
    assert "without translate.target_language" in run.err


def test_config_file_that_is_not_there_is_named() -> None:
    run = chatbotctl("--config", "nowhere.toml", "config", "validate")
    assert run.code == 4
    assert "nowhere.toml" in run.err
    assert "chatbotctl init" in run.err


def test_secret_of_a_wrong_type_is_not_quoted() -> None:
    Path("config.toml").write_text("[openai]\napi_key = ['sk-canary']\n")
    run = chatbotctl("config", "validate")
    assert run.code == 4
    assert "openai.api_key" in run.err
    assert "canary" not in run.err


def test_validating_makes_no_file(tmp_path: Path) -> None:
    chatbotctl("config", "validate")
    chatbotctl("config", "show")
    assert list(tmp_path.iterdir()) == []
