"""The key that encrypts credentials: made once, readable by its owner only, taken from the environment first."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from chatbotctl.core import secret_key
from chatbotctl.core.errors import SecretKeyError
from chatbotctl.core.storage.credentials import Vault


def test_init_makes_a_good_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    old = os.umask(0)
    try:
        assert secret_key.make(home)
    finally:
        os.umask(old)

    assert stat.S_IMODE(secret_key.key_file(home).stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    (key,) = secret_key.load(home)
    assert Fernet(key)


def test_key_that_is_there_is_kept(tmp_path: Path) -> None:
    secret_key.make(tmp_path)
    before = secret_key.load(tmp_path)

    assert not secret_key.make(tmp_path)
    assert secret_key.load(tmp_path) == before


def test_no_file_is_made_where_the_environment_holds_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATBOTCTL_SECRET_KEY", Fernet.generate_key().decode())

    assert not secret_key.make(tmp_path)
    assert not secret_key.key_file(tmp_path).exists()
    assert secret_key.place(tmp_path) == "CHATBOTCTL_SECRET_KEY"


def test_environment_beats_the_file_and_holds_several_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret_key.make(tmp_path)
    assert secret_key.place(tmp_path) == secret_key.key_file(tmp_path)
    monkeypatch.setenv("CHATBOTCTL_SECRET_KEY", " new , old,, ")

    assert secret_key.load(tmp_path) == ["new", "old"]


def test_file_may_hold_a_key_on_each_line(tmp_path: Path) -> None:
    secret_key.make(tmp_path)
    secret_key.key_file(tmp_path).write_text("new\nold\n\n")

    assert secret_key.load(tmp_path) == ["new", "old"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_file_that_others_can_read_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    secret_key.make(tmp_path)
    secret_key.key_file(tmp_path).chmod(mode)

    with pytest.raises(SecretKeyError, match="can be read by others") as caught:
        secret_key.load(tmp_path)
    assert caught.value.hint == f"chmod 600 {secret_key.key_file(tmp_path)}"


def test_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SecretKeyError, match="no usable key") as caught:
        secret_key.load(tmp_path)

    assert "chatbotctl init" in str(caught.value.hint)


def test_file_that_is_no_text_is_said_without_its_bytes(tmp_path: Path) -> None:
    secret_key.make(tmp_path)
    secret_key.key_file(tmp_path).write_bytes(b"canary\xff\xfe")

    with pytest.raises(SecretKeyError) as caught:
        secret_key.load(tmp_path)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("keys", [[], ["canary-short"], ["c" * 44], ["ü" * 44], [""]])
def test_key_that_is_none_is_said_in_words_and_not_shown(keys: list[str]) -> None:
    with pytest.raises(SecretKeyError, match="32 url-safe base64-encoded bytes") as caught:
        Vault(keys)
    assert "canary" not in str(caught.value)
