"""`business credentials`: secrets go in by prompt, pipe or file, and come out nowhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import Run, chatbotctl
from tests.fakes.openai_server import FakeOpenAI
from tests.unit.commands import business_site as site

SID = "AC" + "0a" * 16
GOOD = {"openai": "sk-canary-5f1c", "twilio": f"{SID}:canary-token", "slack": "xoxb-1-canary"}


@pytest.fixture(autouse=True)
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site.set_up(monkeypatch, tmp_path)
    site.add("luna")


def _set(provider: str, secret: str, *options: str) -> Run:
    return chatbotctl("business", "credentials", "set", "luna", provider, *options, stdin=secret)


def _listed() -> list[str]:
    return [entry["provider"] for entry in chatbotctl("business", "credentials", "list", "luna", "--json").json]


@pytest.mark.parametrize("provider", GOOD)
def test_secret_from_a_pipe_is_stored_and_never_shown(provider: str) -> None:
    run = _set(provider, GOOD[provider] + "\n")
    assert (run.code, run.out) == (0, "")
    assert f"Stored the {provider} credentials of luna." in run.err
    assert _listed() == [provider]
    shown = [
        run,
        chatbotctl("business", "credentials", "list", "luna"),
        chatbotctl("business", "show", "luna"),
        chatbotctl("business", "show", "luna", "--json"),
    ]
    assert all("canary" not in each.out + each.err for each in shown)
    assert b"canary" not in b"".join(file.read_bytes() for file in Path().glob("*.db*"))


def test_stored_secret_is_what_the_business_is_answered_with(
    monkeypatch: pytest.MonkeyPatch, fake_openai: FakeOpenAI
) -> None:
    fake_openai.keys = {"sk-of-luna"}
    monkeypatch.setenv("OPENAI_BASE_URL", fake_openai.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-install")
    monkeypatch.setenv("CHATBOTCTL_OPENAI__ATTEMPTS", "1")
    chatbotctl("business", "update", "luna", "--backend", "openai", "--model", "gpt-test")
    said = ["simulate", "--from", "+15557654321", "--body", "Hello"]
    assert chatbotctl(*said).code == 5
    _set("openai", "sk-of-luna")
    assert chatbotctl(*said).out == "You said: Hello\n"


def test_secret_from_a_file_needs_no_prompt() -> None:
    Path("key.txt").write_text("  sk-canary\r\n")
    assert _set("openai", "", "--file", "key.txt").code == 0
    with site.core() as core, core.database.read() as tx:
        assert core.vault.secret(tx, 1, "openai") == "sk-canary"


def test_secret_typed_on_a_terminal_is_not_echoed() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "chatbotctl", "business", "credentials", "set", "luna", "openai"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        assert process.stderr is not None
        prompt = process.stderr.read(len("openai credentials of luna"))
        os.write(ours, b"sk-canary\n")
        _, rest = process.communicate(timeout=60)
        code = process.returncode
    os.close(ours)
    assert (code, prompt) == (0, b"openai credentials of luna")
    assert b"Stored the openai credentials" in rest
    assert b"canary" not in rest
    assert _listed() == ["openai"]


def test_secret_is_replaced() -> None:
    _set("openai", "sk-old")
    assert "Replaced the openai credentials" in _set("openai", "sk-new").err
    with site.core() as core, core.database.read() as tx:
        assert core.vault.secret(tx, 1, "openai") == "sk-new"


@pytest.mark.parametrize(
    ("provider", "secret"),
    [
        ("openai", "sk canary"),
        ("openai", "sk-canary-ü"),
        ("openai", "sk-canary" * 200),
        ("twilio", "canary-token"),
        ("twilio", f"{SID}:"),
        ("twilio", f"{SID}canary"),
        ("twilio", "AC123:canary"),
        ("twilio", f"{SID}:canary:more"),
        ("slack", "canary"),
        ("slack", "xapp-1-canary"),
        ("slack", "xoxb-canary\x1b[2J"),
    ],
)
def test_what_is_no_such_secret_is_refused_without_quoting_it(provider: str, secret: str) -> None:
    run = _set(provider, secret)
    assert run.code == 7
    assert f"does not look like {provider} credentials" in run.err
    assert "canary" not in run.err
    assert _listed() == []


@pytest.mark.parametrize("secret", ["", "\n", "   \n"])
def test_no_secret_is_refused(secret: str) -> None:
    run = _set("openai", secret)
    assert run.code == 7
    assert "No secret was given" in run.err


def test_binary_file_is_refused_and_a_missing_one_not_found() -> None:
    Path("key.bin").write_bytes(b"\xff\xfe\x00")
    assert _set("openai", "", "--file", "key.bin").code == 7
    assert _set("openai", "", "--file", "nothing.txt").code == 3
    assert _set("openai", "", "--file", ".").code == 7


def test_secret_is_no_option() -> None:
    assert chatbotctl("business", "credentials", "set", "luna", "openai", "--value", "sk-1").code == 2


def test_provider_that_there_is_none_of_is_refused_with_those_that_there_are() -> None:
    for command in ("set", "remove"):
        run = chatbotctl("business", "credentials", command, "luna", "google", stdin="x")
        assert run.code == 7
        assert "openai, twilio, slack" in run.err


def test_without_a_key_for_them_credentials_cannot_be_stored_and_init_is_the_way(tmp_path: Path) -> None:
    (tmp_path / "secret.key").unlink()
    run = _set("openai", "sk-canary")
    assert run.code == 4
    assert "chatbotctl init" in run.err
    assert _listed() == []


def test_key_that_others_can_read_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "secret.key").chmod(0o644)
    run = _set("openai", "sk-canary")
    assert run.code == 4
    assert "chmod 600" in run.err


def test_business_whose_key_was_lost_can_be_shown_and_says_so(tmp_path: Path) -> None:
    _set("openai", "sk-canary")
    chatbotctl("business", "update", "luna", "--backend", "openai", "--model", "m")
    (tmp_path / "secret.key").unlink()
    assert "no usable key for credentials" in str(site.show()["problem"])


def test_list_json_has_the_keys_that_scripts_rely_on() -> None:
    _set("slack", GOOD["slack"])
    (entry,) = chatbotctl("business", "credentials", "list", "luna", "--json").json
    assert sorted(entry) == ["provider", "set_at"]
    assert entry["set_at"].endswith("Z")


def test_empty_list_says_what_is_used_instead() -> None:
    run = chatbotctl("business", "credentials", "list", "luna")
    assert (run.code, run.out) == (0, "")
    assert "it uses the install's" in run.err


def test_remove_asks_and_needs_yes_where_nobody_can_be_asked() -> None:
    _set("openai", "sk-1")
    assert chatbotctl("business", "credentials", "remove", "luna", "openai", stdin="y\n").code == 7
    assert chatbotctl("business", "credentials", "remove", "luna", "openai", "--dry-run").code == 0
    assert _listed() == ["openai"]
    assert chatbotctl("business", "credentials", "remove", "luna", "openai", "--yes").code == 0
    assert _listed() == []


def test_remove_of_what_is_not_there_is_not_found() -> None:
    run = chatbotctl("business", "credentials", "remove", "luna", "openai", "--yes")
    assert run.code == 3
    assert "credentials list luna" in run.err


def test_unknown_business_is_not_found_before_a_secret_is_asked_for() -> None:
    for command in (["set", "nova", "openai"], ["list", "nova"], ["remove", "nova", "openai"]):
        assert chatbotctl("business", "credentials", *command, stdin="sk-1").code == 3
