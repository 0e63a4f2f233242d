"""Everything that `serve` loads, at once or with its first message, and the OpenAI SDK's types as its first use builds
them. Imported by the process that forked.py forks; starts no thread and opens nothing, which a fork would share.
"""

import importlib
import time
from urllib.parse import urlsplit

import httpx2
import openai

from tests.fakes.loopback import Request
from tests.fakes.openai_server import FakeOpenAI

for _name in (
    "alembic.command",
    "alembic.ddl.sqlite",
    "anyio.streams.tls",
    "chatbotctl.commands.app",
    "chatbotctl.core.adapters.openai_transport",
    "chatbotctl.core.storage.migrate",
    "chatbotctl.core.wiring",
    "chatbotctl.server.run",
    "httpcore2",
    "huey",
    "psycopg2",
    "redis",
    "rich.console",
    "slack_sdk.web",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "sqlite3",
    "stamina",
    "structlog.dev",
    "tests.chaos.forked",
    "twilio.request_validator",
    "twilio.rest.api.v2010.account.message",
):
    importlib.import_module(_name)


def _use_openai() -> None:
    """Ask each API once; the fake answers without being a server."""
    fake = FakeOpenAI()

    def answer(request: httpx2.Request) -> httpx2.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = urlsplit(str(request.url)).path
        given = fake.handle(Request(request.method, path, {}, headers, request.content, time.monotonic()))
        return httpx2.Response(given.status, json=given.body)

    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as http,
        openai.OpenAI(api_key="sk-test", base_url="http://127.0.0.1/v1", http_client=http) as client,
    ):
        conversation = client.conversations.create(items=[{"type": "message", "role": "user", "content": "Hello"}])
        client.responses.create(model="gpt-test", input="Hello", conversation=conversation.id, metadata={"turn": "1"})
        client.conversations.items.list(conversation.id, order="desc", limit=20)
        client.chat.completions.create(model="gpt-test", messages=[{"role": "user", "content": "Hello"}])


_use_openai()
