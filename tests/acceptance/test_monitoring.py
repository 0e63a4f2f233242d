"""What Prometheus and a supervisor read of an install whose server and worker are two processes."""

from __future__ import annotations

import re

import requests

from tests.acceptance.install import ANA, SHOP, Install, Process, Vendors, wait_for
from tests.fakes.twilio_server import TOKEN

ON = {"CHATBOTCTL_METRICS__PORT": "0", "CHATBOTCTL_LOG__LEVEL": "debug"}


def metrics_url(process: Process) -> str:
    """Where a process says that it serves its metrics."""
    wait_for("the metrics' address", lambda: re.search(r"http://[^ \"]+/metrics", process.log))
    found = re.search(r"(http://[^ \"]+)/metrics", process.log)
    assert found is not None
    return found[1]


def get(url: str, path: str) -> requests.Response:
    return requests.get(f"{url}{path}", timeout=10)


def test_server_and_worker_each_tell_what_they_did(any_install: Install, vendors: Vendors) -> None:
    any_install.ok("business", "add", "shop", "--number", SHOP, "--backend", "chat")
    server, worker = any_install.serve("--no-worker", **ON), any_install.worker(**ON)
    took_in, answered = metrics_url(server), metrics_url(worker)
    any_install.write(server, "canary-words", ProfileName="canary-name")
    wait_for("the reply", lambda: vendors.twilio.sent() == ["You said: canary-words"])
    stored = 'chatbotctl_messages_total{business="shop",result="stored"} 1.0'
    done = 'chatbotctl_turns_total{business="shop",code="",state="done"} 1.0'
    wait_for("the turn's end", lambda: done in get(answered, "/metrics").text)

    assert stored in get(took_in, "/metrics").text
    assert done not in get(took_in, "/metrics").text
    assert "chatbotctl_worker_paused" not in get(took_in, "/metrics").text
    assert "chatbotctl_worker_paused 0.0" in get(answered, "/metrics").text
    assert [get(url, "/readyz").json()["worker"] for url in (took_in, server.url, answered)] == [
        "none",
        "none",
        "running",
    ]
    assert get(answered, "/healthz").json() == {"status": "ok"}
    assert get(server.url, "/metrics").status_code == 404
    pages = get(took_in, "/metrics").text + get(answered, "/metrics").text
    assert (server.stop(), worker.stop()) == (0, 0)
    for secret in ("canary", ANA.removeprefix("whatsapp:"), SHOP.removeprefix("whatsapp:"), TOKEN, "sk-test"):
        assert secret not in pages + server.log + worker.log


def test_a_worker_does_not_start_on_a_port_that_is_taken(install: Install) -> None:
    first = install.worker(**ON)
    port = metrics_url(first).rpartition(":")[2]
    second = install.run("worker", CHATBOTCTL_METRICS__PORT=port)
    assert second.code == 6
    assert f"Port {port} on 127.0.0.1 is in use." in second.err
    assert "metrics.port" in second.err
