"""What stands in deploy/ fits the program: its commands, its settings, its limits, and its own parts to each other."""

from __future__ import annotations

import ipaddress
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatbotctl.core.config import PLAIN_NAMES, PREFIX
from chatbotctl.core.settings import DatabaseSettings, ServerSettings, Settings
from chatbotctl.server.request_reading import MAX_BODY
from chatbotctl.server.run import LAST_ANSWERS_SECONDS
from tests.cli import chatbotctl

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
#: Variables that are no settings.
OTHER_NAMES = {"CHATBOTCTL_HOME", "CHATBOTCTL_SECRET_KEY", "CHATBOTCTL_CONFIG", "POSTGRES_PASSWORD"}
#: Seconds within which Twilio wants its answer.
TWILIO_SECONDS = 15


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text("utf-8"))
    return document


def own_services() -> dict[str, dict[str, Any]]:
    return {name: service for name, service in compose()["services"].items() if service["image"] == "chatbotctl"}


def nginx(directive: str) -> list[str]:
    return re.findall(rf"^\s*{directive} ([^;{{]+);", (DEPLOY / "nginx.conf").read_text("utf-8"), re.MULTILINE)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def unit_values(path: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.+)$", path.read_text("utf-8"), re.MULTILINE)


def require_command(arguments: list[str]) -> None:
    """Fail unless there is such a command with such flags."""
    words = [argument for argument in arguments if not argument.startswith("-")]
    flags = [argument for argument in arguments if argument.startswith("--")]
    command = words[:2] if chatbotctl(*words[:2], "--help").code == 0 else words[:1]
    helped = chatbotctl(*command, "--help")
    assert helped.code == 0, arguments
    assert [flag for flag in flags if not re.search(rf"{flag}\b", helped.out)] == [], arguments


@pytest.mark.parametrize("name", own_services())
def test_the_compose_file_runs_commands_that_there_are(name: str) -> None:
    require_command(own_services()[name]["command"])


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_the_units_run_commands_that_there_are(path: Path) -> None:
    (line,) = unit_values(path, "ExecStart")
    program, *arguments = shlex.split(line)
    assert Path(program).name == "chatbotctl"
    require_command(arguments)


def test_the_page_tells_commands_that_there_are() -> None:
    told = re.findall(r"(?:\bctl|run --rm worker) ([a-z][^`;\n]*)", (DEPLOY / "README.md").read_text("utf-8"))
    assert len(told) >= 5
    for line in told:
        require_command(shlex.split(line))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    in_environment = set(re.findall(rf"\b({PREFIX}[A-Z_]+)", text))
    if path.name == "chatbotctl.env.example":
        in_environment |= set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE))
    known = {
        f"{PREFIX}{section}__{key}".upper()
        for section, model in Settings.model_fields.items()
        for key in model.annotation.model_fields  # type: ignore[union-attr]
    }
    assert in_environment - known - set(PLAIN_NAMES) - OTHER_NAMES == set()
    keys = {name.removeprefix(PREFIX).lower().replace("__", ".") for name in known}
    dotted = set(re.findall(rf"(?<![\w-])((?:{'|'.join(Settings.model_fields)})\.[a-z_]+)\b", text))
    assert dotted - keys - {"redis.internal"} == set()


def test_whatever_is_stopped_has_more_time_than_it_takes_to_drain() -> None:
    needed = ServerSettings().drain_seconds + LAST_ANSWERS_SECONDS
    for name, service in own_services().items():
        assert seconds(service["stop_grace_period"]) > needed, name
    for path in UNITS:
        assert seconds(unit_values(path, "TimeoutStopSec")[0]) > needed, path.name


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_database_that_is_away_when_the_machine_comes_up_is_not_the_end(path: Path) -> None:
    """A process that does not reach it ends with 5; systemd would give it up after the fifth time."""
    assert unit_values(path, "Restart") == ["always"]
    assert unit_values(path, "StartLimitIntervalSec") == ["0"]
    assert "5" not in unit_values(path, "RestartPreventExitStatus")[0].split()


def test_everything_that_is_waited_for_or_addressed_is_there() -> None:
    document = compose()
    for name, service in document["services"].items():
        assert set(service.get("depends_on", {})) <= set(document["services"]), name
        assert set(service["networks"]) <= set(document["networks"]), name
    mounted = [volume.partition(":")[0] for volume in document["services"]["proxy"]["volumes"]]
    assert [path for path in mounted if not (DEPLOY / path).exists()] == ["./certs"], "which are the operator's"
    assert (DEPLOY / f"{own_services()['worker']['env_file']}.example").exists()


def test_the_proxy_passes_on_to_the_servers_that_there_are() -> None:
    servers = [service for service in own_services().values() if service["command"][0] == "serve"]
    (port,) = {service["command"][service["command"].index("--port") + 1] for service in servers}
    addresses = {f"{service['networks']['inside']['ipv4_address']}:{port}" for service in servers}
    assert {server.split()[0] for server in nginx("server")} == addresses


def test_no_other_container_can_be_given_a_servers_address() -> None:
    """A worker that starts while a server is replaced, say; the server could not start then."""
    (pool,) = compose()["networks"]["inside"]["ipam"]["config"]
    given_out, subnet = ipaddress.ip_network(pool["ip_range"]), ipaddress.ip_network(pool["subnet"])
    assert given_out.subnet_of(subnet)
    for service in own_services().values():
        if isinstance(service["networks"], dict):
            address = ipaddress.ip_address(service["networks"]["inside"]["ipv4_address"])
            assert address in subnet
            assert address not in given_out


def test_the_proxy_takes_what_the_server_takes_and_waits_as_long_as_that_may_need() -> None:
    assert [int(size.removesuffix("k")) * 1024 for size in nginx("client_max_body_size")] == [MAX_BODY]
    (longest,) = nginx("proxy_read_timeout")
    assert ServerSettings().reply_wait_seconds < seconds(longest) < TWILIO_SECONDS


def test_all_connections_together_are_within_what_postgresql_takes() -> None:
    document = compose()
    running = [service for service in own_services().values() if service["command"][0] in ("serve", "worker")]
    processes = sum(service.get("deploy", {}).get("replicas", 1) for service in running)
    (most,) = re.findall(r"max_connections=(\d+)", " ".join(document["services"]["postgres"]["command"]))
    # Three are kept for superusers, and somebody may type a command.
    assert processes * DatabaseSettings().pool_size + 5 <= int(most)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd on this machine")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_understands_the_units(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_text(path.read_text("utf-8").replace("/opt/chatbotctl/bin/chatbotctl", "/bin/true"), "utf-8")
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
