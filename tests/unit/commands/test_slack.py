"""`slack manifest`: what an operator pastes into Slack's "Create an app"."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatbotctl.core.upkeep.slack_manifest import SCOPES, manifest
from tests.cli import chatbotctl


def test_manifest_is_one_json_document_with_the_scopes() -> None:
    run = chatbotctl("slack", "manifest")
    assert run.code == 0
    assert run.err == ""
    assert run.json == manifest(public_url=None)
    assert run.json["oauth_config"]["scopes"]["bot"] == list(SCOPES)


def test_manifest_names_the_install_by_its_public_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLIC_URL", "https://bot.example.com")
    assert "bot.example.com" in chatbotctl("slack", "manifest").json["display_information"]["description"]


def test_manifest_needs_no_database_and_makes_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert chatbotctl("slack", "manifest").code == 0
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_are_said_before_anything_is_printed() -> None:
    Path("config.toml").write_text("[server]\npublic_url = 'bot.example.com'\n")
    run = chatbotctl("slack", "manifest")
    assert (run.code, run.out) == (4, "")
