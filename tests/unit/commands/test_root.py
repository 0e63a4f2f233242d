"""The root of the command line: what it loads, its exit codes, and what is said of errors and faults."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chatbotctl import __version__
from chatbotctl.commands import session
from tests import installs
from tests.cli import chatbotctl
from tests.fakes.openai_server import FakeOpenAI
from tests.unit.commands import business_site as site

NUMBER = "whatsapp:+15550001111"
#: What takes long to import: none of it is there before a command runs.
HEAVY = {
    *("alembic", "cryptography", "flask", "google", "grpc", "httpx2", "huey", "numpy", "openai", "phonenumbers"),
    *("psycopg2", "pydantic_settings", "redis", "requests", "slack_sdk", "sqlalchemy", "twilio", "waitress"),
}
GROUPS = ["business", "thread", "cache", "db", "config", "slack"]


def loaded_by(*args: str, **variables: str) -> set[str]:
    """The top-level modules that a process has loaded when it ends."""
    script = (
        "import json, sys\n"
        "from chatbotctl.commands.app import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        "    print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, *args],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout, run.stderr
    return set(json.loads(run.stderr.splitlines()[-1]))


# what is loaded


@pytest.mark.parametrize(
    "args", [("--help",), ("--version",), *((group, "--help") for group in GROUPS), ("thread", "show", "--help")]
)
def test_help_loads_nothing_heavy(args: tuple[str, ...]) -> None:
    modules = loaded_by(*args)
    assert "typer" in modules
    assert modules & HEAVY == set()


@pytest.mark.parametrize("words", ["chatbotctl ", "chatbotctl th", "chatbotctl thread ", "chatbotctl cache rebuild --"])
def test_completion_of_commands_and_options_loads_nothing_heavy(words: str) -> None:
    modules = loaded_by(
        _CHATBOTCTL_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1)
    )
    assert "typer" in modules
    assert modules & HEAVY == set()


# help


def test_help_lists_every_command_and_where_to_start() -> None:
    run = chatbotctl("--help")
    assert run.code == 0
    for command in ("init", "serve", "simulate", *GROUPS):
        assert f" {command} " in run.out
    assert "chatbotctl init --demo" in run.out


@pytest.mark.parametrize("command", ["init", "serve", "simulate", "thread list", "thread show", "thread reset"])
def test_help_leads_with_an_example(command: str) -> None:
    assert f"Example: chatbotctl {command}" in " ".join(chatbotctl(*command.split(), "--help").out.split())


@pytest.mark.parametrize(
    "command",
    ["cache rebuild", "cache verify", "cache show", "db upgrade", "db current", "config show", "slack manifest"],
)
def test_help_of_upkeep_leads_with_an_example(command: str) -> None:
    assert f"Example: chatbotctl {command}" in " ".join(chatbotctl(*command.split(), "--help").out.split())


def test_version_is_printed() -> None:
    run = chatbotctl("--version")
    assert (run.code, run.out) == (0, f"chatbotctl {__version__}\n")


# a test per exit code (143, on SIGTERM, is the acceptance tests')


def test_0_it_worked() -> None:
    assert chatbotctl("slack", "manifest").code == 0


def test_1_a_fault_of_our_own_shows_its_type_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    _break(monkeypatch)
    run = chatbotctl("config", "show")
    assert run.code == 1
    assert run.err == "Error: Unexpected fault: ZeroDivisionError.\nTry: Run it again with --debug for the traceback.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_1_a_fault_of_the_systems_says_what_it_was(unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "chatbotctl", "slack", "manifest"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert run.returncode == 1
    assert "Error: Unexpected fault: OSError (No space left on device).\n" in run.stderr


@pytest.mark.parametrize(
    "args", [("thrad",), ("thread", "shwo"), ("--nope",), ("thread", "list", "--limit"), ("thread", "show", "1", "2")]
)
def test_2_wrong_usage(args: tuple[str, ...]) -> None:
    run = chatbotctl(*args)
    assert run.code == 2
    assert "Error" in run.err
    assert run.out == ""


def test_3_not_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site.set_up(monkeypatch, tmp_path)
    assert chatbotctl("thread", "show", "1").code == 3


def test_4_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATBOTCTL_SERVER__PORT", "high")
    assert chatbotctl("config", "show").code == 4


def test_5_an_outside_service_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("DATABASE_URL", f"postgresql://127.0.0.1:{listener.getsockname()[1]}/x")
    assert chatbotctl("thread", "list").code == 5


def test_6_conflict() -> None:
    run = chatbotctl("thread", "list")
    assert run.code == 6
    assert "chatbotctl init" in run.err


def test_7_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site.set_up(monkeypatch, tmp_path)
    site.add("luna", number=NUMBER)
    chatbotctl("business", "disable", "luna")
    assert chatbotctl("simulate", "--from", "+15557654321", "--body", "Hello").code == 7


def test_8_a_check_found_problems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str) -> None:
    import redis

    site.set_up(monkeypatch, tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.set("whatsapp:+1_whatsapp:+2", "stale")
    assert chatbotctl("cache", "verify").code == 8


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_exit_code_is_the_same_when_a_stream_is_closed(
    closed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site.set_up(monkeypatch, tmp_path)
    site.add("luna", number=NUMBER)
    command = f"{sys.executable} -m chatbotctl business remove luna {closed}"
    run = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=False)
    assert run.returncode == 7, run.stderr


@pytest.mark.usefixtures("ctrl_c")
def test_130_ctrl_c_ends_a_command_that_waits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_openai: FakeOpenAI
) -> None:
    site.set_up(monkeypatch, tmp_path, fake_openai)
    site.add("luna", "--backend", "openai", number=NUMBER)
    fake_openai.thinking = 60.0
    command = [sys.executable, "-m", "chatbotctl", "simulate", "--from", "+15557654321", "--body", "Hello"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        installs.eventually(lambda: fake_openai.seen("/v1/responses"))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


# faults


def _break(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the middle of a command, with a customer's text in its words and in a local variable."""

    def load(*_: object) -> None:
        body = "customer-canary"  # noqa: F841 - a traceback with locals would show it
        raise ZeroDivisionError("words-canary")

    monkeypatch.setattr(session.Session, "loaded", load)


def test_debug_shows_the_traceback_without_local_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    _break(monkeypatch)
    run = chatbotctl("--debug", "config", "show")
    assert run.code == 1
    assert "Traceback (most recent call last)" in run.err
    assert "ZeroDivisionError" in run.err
    assert "customer-canary" not in run.err
    assert "Unexpected fault: ZeroDivisionError." in run.err


def test_debug_keeps_the_exit_code_and_the_sentence() -> None:
    run = chatbotctl("--debug", "thread", "list")
    assert run.code == 6
    assert "Traceback" in run.err
    assert "Error: The database has no tables yet." in run.err


def test_debug_as_another_options_value_shows_no_traceback() -> None:
    run = chatbotctl("thread", "list", "--business", "--debug")
    assert run.code == 6
    assert "Traceback" not in run.err


def test_error_is_a_sentence_and_the_next_thing_to_type() -> None:
    run = chatbotctl("thread", "list")
    assert run.out == ""
    first, second = run.err.splitlines()
    assert first.startswith("Error: ")
    assert second.startswith("Try: ")


def test_quiet_leaves_errors() -> None:
    assert chatbotctl("--quiet", "thread", "list").err.startswith("Error: ")
