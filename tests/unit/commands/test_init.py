"""`init`: everything that a new install needs, made once and left alone after that."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from chatbotctl.core.upkeep.demo import ADDRESS, NAME
from tests.cli import chatbotctl
from tests.unit.commands import business_site as site


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_install_gets_a_config_file_a_key_and_a_database(tmp_path: Path) -> None:
    run = chatbotctl("init")
    assert run.code == 0
    assert run.out == ""
    assert run.err.count("Made the ") == 3
    for name in ("config.toml", "secret.key", "chatbotctl.db"):
        assert str(tmp_path / name) in run.err
        assert mode(tmp_path / name) == 0o600
    assert "chatbotctl serve" in run.err
    assert chatbotctl("config", "validate").code == 0
    assert chatbotctl("db", "current").code == 0
    assert chatbotctl("business", "list", "--json").json == []


def test_second_init_keeps_what_is_there(tmp_path: Path) -> None:
    chatbotctl("init")
    before = {name: (tmp_path / name).read_bytes() for name in ("config.toml", "secret.key")}
    run = chatbotctl("init")
    assert run.code == 0
    assert run.err.count("Kept the ") == 3
    assert "Made the " not in run.err
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_demo_answers_right_away() -> None:
    run = chatbotctl("init", "--demo")
    assert run.code == 0
    assert NAME in run.err
    answer = chatbotctl("simulate", "--from", "+15557654321", "--body", "Do you deliver?")
    assert answer.code == 0
    assert "deliver" in answer.out.lower()
    (business,) = chatbotctl("business", "list", "--json").json
    assert (business["name"], business["number"]) == (NAME, ADDRESS)


def test_demo_is_added_once_and_also_later() -> None:
    chatbotctl("init")
    assert chatbotctl("init", "--demo").code == 0
    assert chatbotctl("init", "--demo").code == 0
    assert len(chatbotctl("business", "list", "--json").json) == 1


def test_demo_does_not_move_in_with_real_businesses() -> None:
    chatbotctl("init")
    site.add("luna")
    run = chatbotctl("init", "--demo")
    assert run.code == 6
    assert "no demo was added" in run.err
    assert [business["name"] for business in chatbotctl("business", "list", "--json").json] == ["luna"]


def test_config_file_is_made_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "bot.toml"
    assert chatbotctl("--config", str(path), "init").code == 0
    assert mode(path) == 0o600
    assert not (tmp_path / "config.toml").exists()


def test_database_that_is_named_is_the_one_that_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'data' / 'bot.db'}")
    run = chatbotctl("init")
    assert run.code == 0
    assert mode(tmp_path / "data" / "bot.db") == 0o600
    assert not (tmp_path / "chatbotctl.db").exists()


def test_key_of_the_environment_is_used_and_no_file_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATBOTCTL_SECRET_KEY", "canary")
    run = chatbotctl("init")
    assert run.code == 0
    assert not (tmp_path / "secret.key").exists()
    assert "canary" not in run.err


def test_home_that_cannot_be_made_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHATBOTCTL_HOME", str(tmp_path / "file" / "home"))
    run = chatbotctl("init")
    assert run.code == 4
    assert str(tmp_path / "file" / "home") in run.err


def test_key_that_cannot_be_written_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHATBOTCTL_HOME", str(tmp_path / "file" / "home"))
    run = chatbotctl("--config", str(tmp_path / "config.toml"), "init")
    assert run.code == 4
    assert "Unexpected" not in run.err


def test_database_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    chatbotctl("init")
    (tmp_path / "chatbotctl.db").chmod(0o640)
    run = chatbotctl("init")
    assert run.code == 0
    assert f"Others on this machine can read {tmp_path / 'chatbotctl.db'}" in run.err
    assert f"chmod 600 {tmp_path / 'chatbotctl.db'}" in run.err
    (tmp_path / "chatbotctl.db").chmod(0o600)
    assert "Others" not in chatbotctl("init").err


def test_key_file_that_is_a_link_to_nowhere_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "secret.key").symlink_to(tmp_path / "volume" / "secret.key")
    run = chatbotctl("init")
    assert run.code == 4
    assert f"is a link to {tmp_path / 'volume' / 'secret.key'}, which is not there" in run.err
    assert "remove the link" in run.err
    assert (tmp_path / "secret.key").is_symlink()


def test_quiet_init_says_nothing() -> None:
    run = chatbotctl("--quiet", "init", "--demo")
    assert (run.code, run.out, run.err) == (0, "", "")
