"""An install as an operator has it: the real command in processes of its own, against loopback vendors.

Nothing here reaches into the package: what a test knows, it knows from the command line, from HTTP, and from what the
fakes of the vendors have seen.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import requests

from tests.fakes.google_server import FakeGoogleTranslate
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import ACCOUNT, TOKEN, FakeTwilio

COMMAND = str(Path(sys.executable).with_name("chatbotctl"))
SHOP = "whatsapp:+15550001111"
ANA = "whatsapp:+15557654321"
#: Seconds that anything may take before a test says that it never came.
PATIENCE = 40.0


def wait_for(what: str, happened: Callable[[], object], *, seconds: float = PATIENCE) -> None:
    """Come back once `happened()` is true; fail, saying what never came."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"{what}: did not happen within {seconds} s"
        time.sleep(0.05)


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Vendors:
    """The outside world."""

    twilio: FakeTwilio
    openai: FakeOpenAI
    slack: FakeSlack
    google: FakeGoogleTranslate

    @property
    def environment(self) -> dict[str, str]:
        """What points an install at them."""
        return {
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": TOKEN,
            "TWILIO_API_BASE_URL": self.twilio.url,
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": self.openai.base_url,
            "OPENAI_BETA_BASE_URL": self.openai.base_url,
            "CHATBOTCTL_OPENAI__MODEL": "gpt-test",
            "SLACK_BOT_TOKEN": "xoxb-test",
            "SLACK_API_BASE_URL": self.slack.api_url,
            "CHATBOTCTL_SLACK__POSTS_PER_SECOND": "50",
            "TRANSLATE_ENDPOINT": self.google.url,
        }


class Reachable(Protocol):
    """What webhooks can be sent to."""

    @property
    def url(self) -> str: ...


class Process:
    """A command that stays, from when it has said that it is ready."""

    #: What it says then; the group is what tests know it by.
    READY = r"Working as (\S+)\."

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for("its being ready", lambda: self._said() or process.poll() is not None)
        assert process.poll() is None, f"it ended at once:\n{self.log}"
        self.said = self._said() or ""

    @property
    def log(self) -> str:
        """Everything that it has printed."""
        return "".join(self.lines)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """SIGKILL: the plug."""
        self.process.kill()
        self.ended()

    def ended(self) -> int:
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.lines.append(line)

    def _said(self) -> str | None:
        found = re.search(self.READY, self.log)
        return found[1] if found else None


class Server(Process):
    """A running `chatbotctl serve`."""

    READY = r"Serving on (http://\S+)"

    @property
    def url(self) -> str:
        """Where it takes requests."""
        return self.said


@dataclass
class Install:
    """A home folder, an environment, and the processes that run on them."""

    home: Path
    environment: dict[str, str]
    processes: list[Process] = field(default_factory=list)

    def run(self, *args: str, stdin: str = "", **environment: str) -> Done:
        """Run one command to its end."""
        done = subprocess.run(
            [COMMAND, *args],
            input=stdin,
            env=self.env(environment),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, *args: str, stdin: str = "", **environment: str) -> Done:
        """Run one command that must succeed."""
        done = self.run(*args, stdin=stdin, **environment)
        assert done.code == 0, f"{args} ended with {done.code}:\n{done.out}\n{done.err}"
        return done

    def serve(self, *args: str, **environment: str) -> Server:
        """Start the server on a free port."""
        server = Server(self._start("serve", "--port", "0", *args, **environment))
        self.processes.append(server)
        return server

    def worker(self, *args: str, **environment: str) -> Process:
        """Start a worker without a server."""
        worker = Process(self._start("worker", *args, **environment))
        self.processes.append(worker)
        return worker

    def write(self, server: Server, body: str, **fields: str) -> requests.Response:
        """A customer writes: Twilio's signed webhook, as urllib would send it."""
        form = {"From": ANA, "To": SHOP, "Body": body, "MessageSid": f"SM{uuid.uuid4().hex}", "NumMedia": "0", **fields}
        return self.post(server, form)

    def post(
        self, server: Reachable, form: dict[str, str], *, timeout: float | tuple[float, float] = PATIENCE
    ) -> requests.Response:
        """Post a form with Twilio's signature; `timeout` in seconds, as requests takes it."""
        url = f"{server.url}/whatsapp"
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": signature(self.environment["TWILIO_AUTH_TOKEN"], url, form),
        }
        with requests.Session() as session:
            # No proxy of the environment's: it is loopback, and another thread may be changing the environment.
            session.trust_env = False
            return session.post(url, data=urlencode(form), headers=headers, timeout=timeout)

    def close(self) -> None:
        for process in self.processes:
            if process.process.poll() is None:
                process.kill()

    def _start(self, *args: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *args],
            env=self.env(environment),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def env(self, more: dict[str, str] | None = None) -> dict[str, str]:
        """The environment that commands run in."""
        base = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "CHATBOTCTL_HOME": str(self.home),
        }
        return {**base, **self.environment, **(more or {})}


def signature(token: str, url: str, form: dict[str, str]) -> str:
    """Twilio's signature as its documentation tells it, in our own words: the SDK is what is being tested."""
    text = url + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()
