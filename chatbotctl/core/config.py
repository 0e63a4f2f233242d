"""Where settings come from: sources merged and checked, with errors that name the file, the key and what is allowed.

Order, highest first: flags > environment > .env > config.toml > defaults. In the environment a setting is either
`CHATBOTCTL_<SECTION>__<KEY>` or, for those in PLAIN_NAMES, the plain name that its vendor's tools use. Unknown keys are
errors. What can be set at all stands in settings.py.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from chatbotctl.core.errors import ConfigurationError
from chatbotctl.core.settings import Settings

PREFIX = "CHATBOTCTL_"

#: Plain environment name -> (section, key). The names that the vendors' own tools use.
PLAIN_NAMES: dict[str, tuple[str, str]] = {
    "DATABASE_URL": ("database", "url"),
    "REDIS_URL": ("redis", "url"),
    "PUBLIC_URL": ("server", "public_url"),
    "TWILIO_ACCOUNT_SID": ("twilio", "account_sid"),
    "TWILIO_AUTH_TOKEN": ("twilio", "auth_token"),
    "TWILIO_API_BASE_URL": ("twilio", "api_base_url"),
    "OPENAI_API_KEY": ("openai", "api_key"),
    "OPENAI_BASE_URL": ("openai", "base_url"),
    "OPENAI_BETA_BASE_URL": ("openai", "beta_base_url"),
    "SLACK_BOT_TOKEN": ("slack", "bot_token"),
    "SLACK_API_BASE_URL": ("slack", "api_base_url"),
    "TARGET_LANGUAGE": ("translate", "target_language"),
    "TRANSLATE_ENDPOINT": ("translate", "endpoint"),
    "GOOGLE_APPLICATION_CREDENTIALS": ("translate", "credentials_file"),
}


_ALL_SETTINGS = "docs/settings.md explains every setting; config.example.toml shows them all."

Key = tuple[str, str]

#: Settings that are lists: in the environment they may be written as JSON.
_LISTS: frozenset[Key] = frozenset({("server", "trusted_proxies")})


@dataclass(frozen=True)
class Loaded:
    """Settings with where each came from."""

    settings: Settings
    home: Path
    #: (section, key) -> "default", a file's path, an environment variable's name, or "flag"
    origins: Mapping[Key, str]

    @property
    def database_url(self) -> str:
        """The database that is used: `database.url`, or SQLite in the home folder."""
        url = self.settings.database.url
        return url.get_secret_value() if url else f"sqlite:///{self.home / 'chatbotctl.db'}"

    def origin(self, section: str, key: str) -> str:
        """Where a value came from, in words."""
        return self.origins.get((section, key), "default")


def home_folder(environ: Mapping[str, str] | None = None) -> Path:
    """The folder for the embedded database, the key file and the config: CHATBOTCTL_HOME or the user's data folder."""
    given = (os.environ if environ is None else environ).get("CHATBOTCTL_HOME")
    if given:
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("chatbotctl", appauthor=False))


def config_path(flag: Path | None = None) -> Path | None:
    """The config file in force: --config, CHATBOTCTL_CONFIG, ./config.toml, the home's, the user's config folder's."""
    given = flag or (Path(os.environ["CHATBOTCTL_CONFIG"]) if os.environ.get("CHATBOTCTL_CONFIG") else None)
    if given is not None:
        if not _is_there(given):
            raise ConfigurationError(
                f"The config file {given} does not exist.",
                hint="Make one with `chatbotctl init`, or leave --config and CHATBOTCTL_CONFIG out.",
            )
        return given
    import platformdirs

    usual = Path(platformdirs.user_config_dir("chatbotctl", appauthor=False))
    for candidate in (Path("config.toml"), home_folder() / "config.toml", usual / "config.toml"):
        if _is_there(candidate):
            return candidate
    return None


def _is_there(path: Path) -> bool:
    """Whether there is a file. Raises ConfigurationError where the system does not tell, as in another's folder."""
    try:
        return path.is_file()
    except OSError as exc:
        raise ConfigurationError(
            f"{path} cannot be looked at: {exc.strerror}.",
            hint="Run this as the user whom the folder belongs to, or name your own with CHATBOTCTL_HOME or --config.",
        ) from exc


def load(flag_config: Path | None = None, flags: Mapping[Key, object] | None = None) -> Loaded:
    """Read all sources and check them.

    Arguments:
        flag_config: the file named by --config, if any.
        flags: values given on the command line, by (section, key); they beat everything.

    Raises ConfigurationError that names the source, the key, and what is allowed.
    """
    merged: dict[Key, object] = {}
    origins: dict[Key, str] = {}
    for origin, key, value in _sources(config_path(flag_config)):
        merged[key] = value
        origins[key] = origin
    for key, value in (flags or {}).items():
        merged[key] = value
        origins[key] = "flag"
    nested: dict[str, dict[str, object]] = {}
    for (section, name), value in merged.items():
        nested.setdefault(section, {})[name] = value
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as exc:
        raise ConfigurationError(
            "; ".join(_explain(error, origins) for error in exc.errors(include_input=False)),
            hint=_ALL_SETTINGS,
        ) from None
    return Loaded(settings=settings, home=home_folder(), origins=origins)


def _sources(path: Path | None) -> Iterator[tuple[str, Key, object]]:
    """Every value of every source with its origin, lowest priority first."""
    if path is not None:
        yield from _from_file(path)
    try:
        dotenv = _variables(DotEnvSettingsSource(BaseSettings, env_file=".env", env_prefix=PREFIX))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            ".env cannot be read as UTF-8 text.", hint="Check the file's owner, mode and encoding."
        ) from exc
    environment = _variables(EnvSettingsSource(BaseSettings, env_prefix=PREFIX))
    yield from _from_redis_parts(dotenv, dotenv, ".env: ")
    yield from _from_variables(dotenv, ".env: ")
    yield from _from_redis_parts(environment, dotenv | environment, "")
    yield from _from_variables(environment, "")


def _variables(source: EnvSettingsSource) -> dict[str, str]:
    """Environment variables by name in capitals; an empty one counts as not set."""
    return {name.upper(): value for name, value in source.env_vars.items() if value}


def _from_file(path: Path) -> Iterator[tuple[str, Key, object]]:
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigurationError(
            f"{path} cannot be read: {exc.strerror}.", hint="Check the file's owner and mode."
        ) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"{path} is not valid TOML: {exc}.", hint="Compare it with config.example.toml."
        ) from exc
    for section, values in document.items():
        if not isinstance(values, dict):
            raise ConfigurationError(
                f"{path}: `{section}` stands outside of any section.",
                hint=f"Put it under one of: {', '.join(f'[{name}]' for name in Settings.model_fields)}.",
            )
        _known_section(section, f"{path}: [{section}]")
        for key, value in values.items():
            yield str(path), (section, key), value


def _from_redis_parts(
    given: Mapping[str, str], known: Mapping[str, str], where: str
) -> Iterator[tuple[str, Key, object]]:
    """redis.url from REDIS_HOST and REDIS_PORT, of which one may stand in .env and the other in the environment."""
    part = next((name for name in ("REDIS_HOST", "REDIS_PORT") if name in given), None)
    host, port = known.get("REDIS_HOST"), known.get("REDIS_PORT", "6379")
    if part is None or host is None or "REDIS_URL" in given or f"{PREFIX}REDIS__URL" in given:
        return
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise ConfigurationError(
            "REDIS_PORT is not a port number.",
            hint="Set REDIS_URL instead where something else sets REDIS_PORT, as Kubernetes does.",
        )
    yield where + part, ("redis", "url"), f"redis://{f'[{host}]' if ':' in host else host}:{port}/0"


def _from_variables(variables: Mapping[str, str], where: str) -> Iterator[tuple[str, Key, object]]:
    """The values of the environment or of .env; CHATBOTCTL_ names beat the plain ones."""
    for name, key in PLAIN_NAMES.items():
        if name in variables:
            yield where + name, key, variables[name]
    for name, value in variables.items():
        if not name.startswith(PREFIX):
            continue
        if "__" not in name:
            _no_single_underscore(name, where)
            continue
        section, _, key_name = name.removeprefix(PREFIX).lower().partition("__")
        _known_section(section, where + name)
        parsed: object = value
        if value.startswith("[") and (section, key_name) in _LISTS:
            try:
                parsed = json.loads(value)
            except ValueError as exc:
                raise ConfigurationError(
                    f"{where}{name} is not a valid list.", hint='Write a list as one,two or as JSON: ["one", "two"].'
                ) from exc
        yield where + name, (section, key_name), parsed


def _no_single_underscore(name: str, where: str) -> None:
    """Raise ConfigurationError for CHATBOTCTL_OPENAI_MODEL: silently ignored, it would be looked for for hours."""
    section, _, key = name.removeprefix(PREFIX).partition("_")
    if key and section.lower() in Settings.model_fields:
        raise ConfigurationError(
            f"{where}{name} is not a known setting. Did you mean `{PREFIX}{section}__{key}`?",
            hint="Two underscores stand between section and key. " + _ALL_SETTINGS,
        )


def _known_section(section: str, where: str) -> None:
    if section not in Settings.model_fields:
        raise ConfigurationError(
            f"{where} is not a known section.{_nearest(section, list(Settings.model_fields))}", hint=_ALL_SETTINGS
        )


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean `{close[0]}`?" if close else f" Known: {', '.join(known)}."


def _explain(error: ErrorDetails, origins: Mapping[Key, str]) -> str:
    """One validation error in words: origin, key, what is allowed; never the value, which may be a secret."""
    section, key = str(error["loc"][0]), str(error["loc"][1]) if len(error["loc"]) > 1 else ""
    where = f"{origins.get((section, key), 'default')}: {section}.{key}"
    if error["type"] == "extra_forbidden":
        known = list(Settings.model_fields[section].annotation.model_fields)  # type: ignore[union-attr]
        return f"{where} is not a known setting.{_nearest(key, known)}"
    if error["type"] == "tuple_type":
        return f'{where}: must be a list, like ["10.0.0.1", "10.0.1.0/24"]'
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"
