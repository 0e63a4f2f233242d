"""Where settings come from, which source wins, and errors that say where, what and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatbotctl.core import config
from chatbotctl.core.config import Loaded, load
from chatbotctl.core.errors import ConfigurationError

CANARY = "canary-7f3a"


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """The config.toml of the folder that we are in."""
    return tmp_path / "config.toml"


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def refused(**arguments: object) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(**arguments)  # type: ignore[arg-type]
    assert CANARY not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"
    return caught.value


def redis_url(loaded: Loaded) -> str | None:
    url = loaded.settings.redis.url
    return None if url is None else url.get_secret_value()


# the sources and their order


def test_without_any_source_everything_is_at_its_default(tmp_path: Path) -> None:
    loaded = load()

    assert (loaded.settings.server.host, loaded.settings.server.port) == ("127.0.0.1", 8080)
    assert loaded.origin("server", "port") == "default"
    assert loaded.database_url == f"sqlite:///{tmp_path / 'chatbotctl.db'}"


def test_each_source_beats_the_one_below(config_file: Path, dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file.write_text("[server]\nport = 1\n")
    assert (load().settings.server.port, load().origin("server", "port")) == (1, "config.toml")

    dotenv.write_text("CHATBOTCTL_SERVER__PORT=2\n")
    assert (load().settings.server.port, load().origin("server", "port")) == (2, ".env: CHATBOTCTL_SERVER__PORT")

    monkeypatch.setenv("CHATBOTCTL_SERVER__PORT", "3")
    assert (load().settings.server.port, load().origin("server", "port")) == (3, "CHATBOTCTL_SERVER__PORT")

    flagged = load(flags={("server", "port"): 4})
    assert (flagged.settings.server.port, flagged.origin("server", "port")) == (4, "flag")


def test_sources_mix_key_by_key(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file.write_text('[server]\nport = 1\nhost = "127.0.0.9"\n')
    monkeypatch.setenv("CHATBOTCTL_SERVER__PORT", "3")

    assert (load().settings.server.host, load().settings.server.port) == ("127.0.0.9", 3)


@pytest.mark.parametrize(("name", "key"), config.PLAIN_NAMES.items())
def test_vendors_own_name_works_as_it_is(name: str, key: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"TARGET_LANGUAGE": "pt-BR", "SLACK_API_BASE_URL": "https://y/api/"}.get(name, "https://y")
    monkeypatch.setenv(name, given)

    loaded = load()

    section, field = key
    value = getattr(getattr(loaded.settings, section), field)
    assert str(getattr(value, "get_secret_value", lambda: value)()) in (given, given.replace("//", "/"))
    assert loaded.origin(*key) == name


def test_our_own_name_beats_the_vendors_in_the_same_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://plain")
    monkeypatch.setenv("CHATBOTCTL_OPENAI__BASE_URL", "http://ours")

    assert load().settings.openai.base_url == "http://ours"


def test_environments_plain_name_beats_our_own_name_in_dotenv(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv.write_text("CHATBOTCTL_OPENAI__BASE_URL=http://file\n")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://shell")

    assert load().settings.openai.base_url == "http://shell"


def test_empty_variable_counts_as_not_set(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file.write_text('[openai]\nmodel = "from-file"\n')
    monkeypatch.setenv("CHATBOTCTL_OPENAI__MODEL", "")

    assert load().settings.openai.model == "from-file"


@pytest.mark.parametrize("name", ["LOG", "SERVER", "WORKER", "LIMITS", "DATABASE", "REDIS", "SLACK", "TRANSLATE"])
def test_variable_of_somebody_else_that_is_called_like_a_section_is_none_of_ours(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, '{"port": 1}')
    assert load().settings == config.Settings()

    monkeypatch.setenv(name, "debug")
    assert load().settings == config.Settings()


# the file


def test_config_file_is_looked_for_here_then_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("CHATBOTCTL_HOME", str(home))
    (home / "config.toml").write_text("[server]\nport = 2\n")
    assert load().settings.server.port == 2

    (tmp_path / "config.toml").write_text("[server]\nport = 1\n")
    assert load().settings.server.port == 1


def test_named_config_file_is_the_only_one(tmp_path: Path, config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file.write_text("[server]\nport = 1\n")
    other, third = tmp_path / "other.toml", tmp_path / "third.toml"
    other.write_text("[server]\nport = 2\n")
    third.write_text("")
    monkeypatch.setenv("CHATBOTCTL_CONFIG", str(other))

    assert load().settings.server.port == 2
    assert load(third).settings.server.port == 8080


def test_named_config_file_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "nowhere.toml"
    assert f"{missing} does not exist" in str(refused(flag_config=missing))

    monkeypatch.setenv("CHATBOTCTL_CONFIG", str(missing))
    assert "chatbotctl init" in str(refused().hint)


def test_place_that_the_system_tells_nothing_of_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a folder of somebody else is; root, as whom tests may run, can look into those, but not at such a name."""
    monkeypatch.setenv("CHATBOTCTL_HOME", str(tmp_path / ("x" * 300)))
    error = refused()
    assert "config.toml cannot be looked at: File name too long." in str(error)
    assert "CHATBOTCTL_HOME" in str(error.hint)


@pytest.mark.parametrize(
    "content", [b"[server\n", b"port = \n", b"\xff\xfe", f'[openai]\napi_key = "{CANARY}'.encode()]
)
def test_file_that_is_no_toml_is_named(config_file: Path, content: bytes) -> None:
    config_file.write_bytes(content)

    assert "config.toml is not valid TOML" in str(refused())


def test_key_outside_of_any_section_says_where_to_put_it(config_file: Path) -> None:
    config_file.write_text(f'api_key = "{CANARY}"\n')

    error = refused()
    assert "`api_key` stands outside of any section" in str(error)
    assert "[openai]" in str(error.hint)


def test_dotenv_that_is_no_text_is_named(dotenv: Path) -> None:
    dotenv.write_bytes(b"OPENAI_API_KEY=\xff\xfe\n")

    assert ".env cannot be read" in str(refused())


# what is wrong is said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CHATBOTCTL_SERVR__PORT", "CHATBOTCTL_SERVR__PORT is not a known section. Did you mean `server`?"),
        (
            "CHATBOTCTL_SERVER__PROT",
            "CHATBOTCTL_SERVER__PROT: server.prot is not a known setting. Did you mean `port`?",
        ),
        ("CHATBOTCTL_ZZZ__X", "is not a known section. Known: server, database"),
        ("CHATBOTCTL_OPENAI_MODEL", "is not a known setting. Did you mean `CHATBOTCTL_OPENAI__MODEL`?"),
        ("CHATBOTCTL_LOG__ZZZ", "log.zzz is not a known setting. Known: level, format."),
    ],
)
def test_unknown_name_suggests_the_nearest(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, CANARY)

    assert said in str(refused())


@pytest.mark.parametrize("name", ["CHATBOTCTL_TESTING", "CHATBOTCTL_SECRET_KEY", "CHATBOTCTL_LOGO"])
def test_variable_that_is_no_setting_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "x")

    assert load().settings == config.Settings()


def test_unknown_section_of_the_file_suggests_the_nearest(config_file: Path) -> None:
    config_file.write_text("[twillio]\nanswer = 1\n")

    assert "config.toml: [twillio] is not a known section. Did you mean `twilio`?" in str(refused())


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (("server", "port"), CANARY, "flag: server.port: Input should be a valid integer"),
        (("server", "port"), 70000, "server.port: Input should be less than or equal to 65535"),
        (("server", "public_url"), CANARY, "server.public_url: must be a web address, which begins with https://"),
        (("server", "reply_wait_seconds"), 15, "less than or equal to 14"),
        (("twilio", "answer"), CANARY, "twilio.answer: Input should be 'json' or 'twiml'"),
        (("slack", "channel_name_template"), "{canary}", "may use {thread_id}, {business}, {number} and {customer}"),
        (("slack", "channel_name_template"), "{thread_id.x}", "may use {thread_id}"),
        (("slack", "channel_name_template"), "{", "may use {thread_id}"),
        (("slack", "channel_name_template"), "{thread_id.__class__}", "may use {thread_id}"),
        (("slack", "channel_name_template"), "{thread_id[0]}", "may use {thread_id}"),
        (("slack", "channel_name_template"), "{}", "may use {thread_id}"),
        (("slack", "channel_name_template"), " ", "must not be empty"),
        (("slack", "api_base_url"), f"https://{CANARY}.example/", "must end in /api/"),
        (("translate", "target_language"), "klingon", "must be a language tag, like en"),
        (("server", "drain_seconds"), float("inf"), "finite number"),
        (("openai", "timeout_seconds"), "nan", "finite number"),
        # More than a wait can be told to last: the sweeper would end with an OverflowError.
        (("worker", "sweep_seconds"), 1e10, "less than or equal to 60"),
        # Longer than `db check` takes for a clock that was wrong: `db repair` would take live leases away.
        (("worker", "lease_seconds"), 86400, "less than or equal to 3600"),
        (("twilio", "timeout_seconds"), 1e10, "less than or equal to 3600"),
        (("server", "trusted_proxies"), 5, 'must be a list, like ["10.0.0.1", '),
        (("server", "trusted_proxies"), ["10.0.0.1", CANARY], "no IP address or network, like 10.0.0.5"),
        (("server", "trusted_proxies"), ["10.0.0.0/33"], "no IP address or network"),
        (("server", "trusted_proxies"), ["10.0.0"], "no IP address or network"),
        (("server", "trusted_proxies"), [""], "no IP address or network"),
        (("limits", "max_message_chars"), 0, "greater than or equal to 1"),
    ],
)
def test_wrong_value_names_the_key_and_what_is_allowed(key: tuple[str, str], value: object, said: str) -> None:
    assert said in str(refused(flags={key: value}))


@pytest.mark.parametrize("value", [f"{CANARY}.example/v1", f"ftp://{CANARY}", "https://", f"http://{CANARY}:no/", ""])
@pytest.mark.parametrize(
    "key",
    [
        ("server", "public_url"),
        ("twilio", "api_base_url"),
        ("openai", "base_url"),
        ("openai", "beta_base_url"),
        ("slack", "api_base_url"),
        ("translate", "endpoint"),
    ],
    ids=".".join,
)
def test_every_web_address_is_checked_before_anything_is_asked(key: tuple[str, str], value: str) -> None:
    assert f"{'.'.join(key)}: must be a web address" in str(refused(flags={key: value}))


def test_all_mistakes_are_said_at_once(config_file: Path) -> None:
    config_file.write_text(f'[server]\nport = "{CANARY}"\nhosst = "x"\n[log]\nlevel = "loud"\n')

    message = str(refused())

    assert all(part in message for part in ("server.port", "server.hosst", "log.level"))


def test_settings_print_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "TWILIO_AUTH_TOKEN", "SLACK_BOT_TOKEN", "DATABASE_URL", "REDIS_URL"):
        monkeypatch.setenv(name, f"x://{CANARY}")

    assert CANARY not in f"{load().settings} {load().settings!r} {load()!r}"


# single settings


@pytest.mark.parametrize(
    ("variables", "url", "origin"),
    [
        ({"REDIS_HOST": "cache"}, "redis://cache:6379/0", "REDIS_HOST"),
        ({"REDIS_HOST": "cache", "REDIS_PORT": "7000"}, "redis://cache:7000/0", "REDIS_HOST"),
        ({"REDIS_HOST": "::1"}, "redis://[::1]:6379/0", "REDIS_HOST"),
        ({"REDIS_HOST": "cache", "REDIS_URL": "redis://url/1"}, "redis://url/1", "REDIS_URL"),
        ({"REDIS_HOST": "c", "CHATBOTCTL_REDIS__URL": "redis://x/2"}, "redis://x/2", "CHATBOTCTL_REDIS__URL"),
        ({"REDIS_PORT": "7000"}, None, "default"),
        ({"REDIS_PORT": "tcp://10.0.0.1:6379", "REDIS_URL": "redis://url/1"}, "redis://url/1", "REDIS_URL"),
    ],
)
def test_redis_by_host_and_port_or_by_url(
    variables: dict[str, str], url: str | None, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert (redis_url(load()), load().origin("redis", "url")) == (url, origin)


def test_redis_host_and_port_may_stand_in_different_sources(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv.write_text("REDIS_HOST=from-file\nREDIS_PORT=1\n")
    monkeypatch.setenv("REDIS_PORT", "2")
    assert redis_url(load()) == "redis://from-file:2/0"

    monkeypatch.delenv("REDIS_PORT")
    monkeypatch.setenv("REDIS_HOST", "from-shell")
    assert redis_url(load()) == "redis://from-shell:1/0"


@pytest.mark.parametrize("port", ["tcp://10.0.0.1:6379", "65536", "-1", "٣"])
def test_redis_port_that_is_none_is_named(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_HOST", "cache")
    monkeypatch.setenv("REDIS_PORT", port)

    assert "REDIS_PORT is not a port number" in str(refused())


def test_list_in_the_environment_has_commas_or_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATBOTCTL_SERVER__TRUSTED_PROXIES", '["10.0.0.1", "10.0.0.2"]')
    assert load().settings.server.trusted_proxies == ("10.0.0.1", "10.0.0.2")

    monkeypatch.setenv("CHATBOTCTL_SERVER__TRUSTED_PROXIES", "10.0.0.1, 10.0.0.2,")
    assert load().settings.server.trusted_proxies == ("10.0.0.1", "10.0.0.2")

    monkeypatch.setenv("CHATBOTCTL_SERVER__TRUSTED_PROXIES", "10.0.0.1")
    assert load().settings.server.trusted_proxies == ("10.0.0.1",)

    monkeypatch.setenv("CHATBOTCTL_SERVER__TRUSTED_PROXIES", "[10.0.0.1")
    error = refused()
    assert "CHATBOTCTL_SERVER__TRUSTED_PROXIES is not a valid list" in str(error)
    assert '["one", "two"]' in str(error.hint)


def test_every_setting_that_is_a_list_is_read_as_one() -> None:
    lists = {
        (section, key)
        for section, field in config.Settings.model_fields.items()
        for key, setting in field.annotation.model_fields.items()  # type: ignore[union-attr]
        if "tuple" in str(setting.annotation)
    }

    assert lists == config._LISTS


def test_sentence_in_brackets_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATBOTCTL_REPLIES__APOLOGY", "[Bot] Sorry!")

    assert load().settings.replies.apology == "[Bot] Sorry!"


@pytest.mark.parametrize(("given", "meant"), [("true", True), ("false", False), ("0", False), ("yes", True)])
def test_switch_in_the_environment_is_a_word(given: str, meant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATBOTCTL_SERVER__VERIFY_SIGNATURES", given)

    assert load().settings.server.verify_signatures is meant


def test_public_url_loses_its_last_slash() -> None:
    loaded = load(flags={("server", "public_url"): "https://bot.example/base/"})

    assert loaded.settings.server.public_url == "https://bot.example/base"


@pytest.mark.parametrize("given", ["https://s.example/api", "https://s.example/api/"])
def test_slacks_address_gets_its_last_slash(given: str) -> None:
    assert load(flags={("slack", "api_base_url"): given}).settings.slack.api_base_url == "https://s.example/api/"


def test_language_is_kept_as_a_tag_is_written() -> None:
    assert load(flags={("translate", "target_language"): "pt_br"}).settings.translate.target_language == "pt-BR"


def test_half_of_the_threads_may_wait_unless_set() -> None:
    assert load(flags={("server", "threads"): 9}).settings.server.waiting_requests == 4
    assert load(flags={("server", "max_waiting"): 0}).settings.server.waiting_requests == 0


def test_home_without_a_setting_is_the_users_data_folder() -> None:
    assert config.home_folder({}).name == "chatbotctl"
    assert config.home_folder({"CHATBOTCTL_HOME": "~/bot"}) == Path("~/bot").expanduser()
