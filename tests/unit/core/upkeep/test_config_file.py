"""The config file that `init` makes: it shows every setting with its default, and changes nothing as it stands."""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from chatbotctl.core import config
from chatbotctl.core.errors import ConfigurationError
from chatbotctl.core.settings import Settings
from chatbotctl.core.upkeep import config_file

ROOT = Path(__file__).parents[4]
#: Settings whose default is "unset", or depends on others: the example shows what one would look like.
WITHOUT_DEFAULT = {
    (section, key) for section, values in Settings() for key, value in values if value is None or value == ()
}


def uncommented() -> dict[str, Any]:
    """The example with every setting's line switched on."""
    return tomllib.loads(re.sub(r"(?m)^#(?=\w+ = )", "", config_file.example()))


def test_example_shows_every_setting_and_no_other_in_the_settings_order() -> None:
    shown = [(section, key) for section, values in uncommented().items() for key in values]
    assert shown == [(section, key) for section, values in Settings() for key, _ in values]


def test_example_shows_the_defaults() -> None:
    settings = Settings()
    for section, values in uncommented().items():
        for key, shown in values.items():
            if (section, key) not in WITHOUT_DEFAULT:
                assert shown == getattr(getattr(settings, section), key), f"{section}.{key}"


def test_every_line_of_the_example_may_be_switched_on() -> None:
    settings = Settings.model_validate(uncommented())
    assert isinstance(settings.openai.api_key, SecretStr)


def test_example_as_it_stands_sets_nothing(tmp_path: Path) -> None:
    assert config_file.make(tmp_path / "config.toml")
    loaded = config.load(tmp_path / "config.toml")
    assert loaded.settings == Settings()
    assert dict(loaded.origins) == {}


def test_example_names_the_plain_variables_that_there_are() -> None:
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", config_file.example())) - {"CHATBOTCTL_HOME"}
    assert named == {*config.PLAIN_NAMES, "REDIS_HOST", "REDIS_PORT"} - {
        # Set for tests and proxies, where the docs explain them; the example is for operators.
        "TWILIO_API_BASE_URL",
        "SLACK_API_BASE_URL",
        "TRANSLATE_ENDPOINT",
    }


def test_example_is_the_one_in_the_projects_root() -> None:
    assert (ROOT / "config.example.toml").read_text("utf-8") == config_file.example()


def test_file_and_folder_are_for_their_owners_eyes_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.toml"
    assert config_file.make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[server]\nport = 9000\n")
    assert not config_file.make(path)
    assert path.read_text() == "[server]\nport = 9000\n"


def test_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "config.toml").symlink_to(tmp_path / "elsewhere.toml")
    assert not config_file.make(tmp_path / "config.toml")
    assert not (tmp_path / "elsewhere.toml").exists()


def test_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written") as raised:
        config_file.make(tmp_path / "file" / "config.toml")
    assert str(tmp_path / "file" / "config.toml") in raised.value.message
