"""`business list|show|enable|disable` as an operator and a script see them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chatbotctl.core.errors import BusinessDisabled
from tests import installs
from tests.cli import chatbotctl
from tests.unit.commands import business_site as site


@pytest.fixture(autouse=True)
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site.set_up(monkeypatch, tmp_path)


# list


def test_list_json_has_the_keys_that_scripts_rely_on() -> None:
    site.add("nova", number="+15550002222")
    site.add("luna", "--backend", "openai", "--model", "gpt-test", "--language", "de")
    assert chatbotctl("business", "list", "--json").json == [
        {
            "name": "luna",
            "number": "whatsapp:+15550001111",
            "disabled": False,
            "backend": "openai",
            "model": "gpt-test",
            "language": "de",
        },
        {
            "name": "nova",
            "number": "whatsapp:+15550002222",
            "disabled": False,
            "backend": "knowledge",
            "model": None,
            "language": None,
        },
    ]


def test_list_for_people_says_which_are_disabled_and_why() -> None:
    site.add("luna")
    site.add("nova", number="+15550002222")
    chatbotctl("business", "disable", "nova", "--reason", "closed in January")
    run = chatbotctl("business", "list")
    assert run.code == 0
    head, luna, nova = (line.split() for line in run.out.splitlines())
    assert head == ["NAME", "NUMBER", "STATE", "BACKEND", "MODEL", "LANGUAGE"]
    assert luna == ["luna", "whatsapp:+15550001111", "enabled", "knowledge", "-", "-"]
    assert " ".join(nova).startswith("nova whatsapp:+15550002222 disabled: closed in January knowledge")


def test_empty_list_says_what_to_type_and_is_an_empty_document() -> None:
    run = chatbotctl("business", "list")
    assert (run.code, run.out) == (0, "")
    assert "chatbotctl business add" in run.err
    assert chatbotctl("business", "list", "--json").json == []


def test_install_without_a_database_says_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'absent.db'}")
    run = chatbotctl("business", "list")
    assert run.code == 6
    assert "chatbotctl init" in run.err
    assert not (tmp_path / "absent.db").exists()


# show


def test_show_json_has_everything_but_secrets() -> None:
    site.add(
        "luna",
        *("--backend", "openai", "--model", "gpt-test", "--base-url", "https://ai.example/v1/"),
        *("--instructions", "You are Luna.", "--assistant-id", "asst_1", "--vector-store", "vs_1", "--vector-store"),
        *("vs_2", "--history", "local", "--language", "pt_br", "--apology", "Sorry!", "--max-message-chars", "500"),
        *("--slack-user", "U2", "--slack-user", "U1", "--slack-layout", "thread"),
    )
    chatbotctl("business", "credentials", "set", "luna", "openai", stdin="sk-canary-77\n")
    run = chatbotctl("business", "show", "luna", "--json")
    assert "canary" not in run.out + run.err
    shown = run.json
    (credentials,) = shown.pop("credentials")
    assert (credentials["provider"], sorted(credentials)) == ("openai", ["provider", "set_at"])
    assert shown == {
        "name": "luna",
        "number": "whatsapp:+15550001111",
        "disabled": False,
        "backend": "openai",
        "model": "gpt-test",
        "language": "pt-BR",
        "disabled_reason": None,
        "base_url": "https://ai.example/v1",
        "instructions": "You are Luna.",
        "assistant_id": "asst_1",
        "vector_stores": ["vs_1", "vs_2"],
        "history": "local",
        "apology": "Sorry!",
        "max_message_chars": 500,
        "slack_layout": "thread",
        "slack_channel": None,
        "slack_users": ["U1", "U2"],
        "knowledge_files": 0,
        "threads": 0,
        "problem": None,
    }


def test_show_for_people_tells_what_is_missing_and_what_the_install_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATBOTCTL_OPENAI__MODEL", "gpt-install")
    site.add("luna", "--backend", "openai", "--apology", "")
    out = chatbotctl("business", "show", "luna").out
    assert "There is no API key" in out
    assert "gpt-install (the install's)" in out
    assert "(nothing is sent)" in out


def test_show_obeys_nothing_that_stands_in_the_instructions() -> None:
    site.add("luna")
    with site.core() as core:
        installs.add_business(core, "nova", "whatsapp:+15550002222", instructions="\x1b[2J[bold]hi[/bold]")
    out = chatbotctl("business", "show", "nova").out
    assert "\x1b" not in out
    assert "[bold]hi[/bold]" in out


def test_unknown_business_is_not_found_and_the_known_ones_are_named() -> None:
    site.add("luna")
    for command in (["show"], ["enable"], ["disable"], ["remove", "--yes"], ["update", "--model", "m"]):
        run = chatbotctl("business", command[0], "lun", *command[1:])
        assert (run.code, run.out) == (3, "")
        assert "no business called 'lun'" in run.err
        assert "Use one of: luna" in run.err


# disable and enable


def test_disabled_business_refuses_messages_until_it_is_enabled_again() -> None:
    site.add("luna")
    assert chatbotctl("business", "disable", "luna").code == 0
    refused = chatbotctl("simulate", "--from", "+15557654321", "--body", "Hello")
    assert refused.code == BusinessDisabled.exit_code
    assert chatbotctl("business", "enable", "luna").code == 0
    assert chatbotctl("simulate", "--from", "+15557654321", "--body", "Hello").code == 0
    assert site.show()["disabled_reason"] is None


def test_disabling_withdraws_replies_under_way() -> None:
    site.add("luna")
    with site.core() as core:
        taken = installs.take_in(core, "Hello")
        assert chatbotctl("business", "disable", "luna").code == 0
        installs.work(core, taken.conversation_id)
        outcome = installs.outcome(core, taken)
    assert outcome.code == "business_disabled"


def test_disable_twice_is_fine_and_keeps_or_changes_the_reason() -> None:
    site.add("luna")
    assert "Disabled luna" in chatbotctl("business", "disable", "luna", "--reason", "holiday").err
    assert "disabled already." in chatbotctl("business", "disable", "luna").err
    assert site.show()["disabled_reason"] == "holiday"
    assert "reason is changed" in chatbotctl("business", "disable", "luna", "--reason", "moved\nout").err
    assert site.show()["disabled_reason"] == "moved out"


def test_enable_twice_is_fine() -> None:
    site.add("luna")
    run = chatbotctl("business", "enable", "luna")
    assert (run.code, site.show()["disabled"]) == (0, False)
    assert "enabled already" in run.err


@pytest.mark.parametrize("reason", ["", " ", "a\x1b[2J", "r" * 501, "\ud800"])
def test_reason_that_is_no_line_of_text_is_refused(reason: str) -> None:
    site.add("luna")
    run = chatbotctl("business", "disable", "luna", "--reason", reason)
    assert run.code == 7
    assert "--reason" in run.err
    assert "Try: " in run.err
    assert "--clear" not in run.err
    assert site.show()["disabled"] is False


# help and completion


@pytest.mark.parametrize(
    "command",
    [
        "",
        *("add", "list", "show", "update", "enable", "disable", "remove"),
        *("credentials", "credentials set", "credentials list", "credentials remove"),
        *("knowledge", "knowledge add", "knowledge list", "knowledge remove", "knowledge sync"),
    ],
)
def test_help_gives_an_example_of_the_command_itself(command: str) -> None:
    run = chatbotctl("business", *command.split(), "--help")
    assert run.code == 0
    assert f"Example: chatbotctl business {command}".strip() in " ".join(run.out.split())


def _complete(words: str) -> list[str]:
    """What the shell offers for the last word."""
    environment = {
        **os.environ,
        "_CHATBOTCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    run = subprocess.run(
        [sys.executable, "-m", "chatbotctl"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stderr == ""
    return run.stdout.split()


def test_completion_offers_the_names_that_there_are() -> None:
    site.add("luna")
    site.add("lumen", number="+15550002222")
    site.add("nova", number="+15550003333")
    assert _complete("chatbotctl business show lu") == ["lumen", "luna"]
    assert _complete("chatbotctl business knowledge sync n") == ["nova"]


def test_completion_is_silent_without_a_database_and_makes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    assert _complete("chatbotctl business show lu") == []
    assert not Path("chatbotctl.db").exists()


def test_help_loads_no_database_and_no_sdk() -> None:
    code = (
        "import sys, json; from chatbotctl.commands.app import main; main(['business', 'add', '--help']); "
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    heavy = {"sqlalchemy", "flask", "redis", "openai", "twilio", "slack_sdk", "google.cloud", "cryptography", "huey"}
    assert heavy.isdisjoint(json.loads(run.stderr))
