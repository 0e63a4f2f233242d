"""Twilio and an AI provider as one quick loopback server, in a process of its own: `python -m benchmarks.outside PORT`.

The fakes of the tests check what real services check, and cost more than what is measured here. This one answers
well-formed requests at once (or, with `--thinking`, after so many seconds for the AI) and keeps only what is asked of
it by `Outside`: when each reply reached Twilio and when each question reached the AI, by the clock that all processes
of the machine share.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

from benchmarks import measuring

_TWILIO = b"/2010-04-01/"
_SID = itertools.count(1)


@dataclass(frozen=True)
class Outside:
    """The running server, as benchmarks see it."""

    port: int

    @property
    def url(self) -> str:
        """Where Twilio and the AI provider are."""
        return f"http://127.0.0.1:{self.port}"

    def seen(self) -> Seen:
        """What has reached it since `forget`."""
        found = json.loads(self._call("GET"))
        return Seen([(to, at) for to, at in found["replies"]], found["asked"])

    def forget(self) -> None:
        """Begin to count anew."""
        self._call("DELETE")

    def replies(self, count: int, *, seconds: float) -> list[tuple[str, float]]:
        """Wait for so many replies. Raises Failed when they do not come, or when there are more."""
        end = time.monotonic() + seconds
        while (replies := int(self._call("HEAD"))) < count:
            if time.monotonic() > end:
                raise measuring.Failed(f"{count} messages, but {replies} replies")
            time.sleep(0.02)
        found = self.seen().replies
        if len(found) != count:
            raise measuring.Failed(f"{count} messages, but {len(found)} replies")
        return found

    def _call(self, method: str) -> bytes:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("GET", f"/{method}")
            return connection.getresponse().read()


@dataclass(frozen=True)
class Seen:
    """What has reached the outside; times are time.monotonic()'s."""

    #: Recipient and time of each reply.
    replies: list[tuple[str, float]]
    #: When the AI was asked.
    asked: list[float]


@contextlib.contextmanager
def outside(folder: Path, *, thinking: float = 0.0) -> Iterator[Outside]:
    """The server, in a process of its own, during the block."""
    port = measuring.free_port()
    command = [sys.executable, "-m", "benchmarks.outside", str(port), "--thinking", str(thinking)]
    root = Path(__file__).resolve().parents[1]
    with measuring.serving(command, port=port, environment=measuring.environment(PYTHONPATH=str(root)), folder=folder):
        yield Outside(port)


class _State:
    def __init__(self, thinking: float) -> None:
        self.thinking = thinking
        self.replies: list[tuple[str, float]] = []
        self.asked: list[float] = []


class _Connection(asyncio.Protocol):
    """One connection: requests one after the other, as HTTP clients send them."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        told, _, length = head.lower().partition(b"content-length:")
        del told
        if len(body) < int(length.partition(b"\r\n")[0] or 0):
            return
        self._received = b""
        path = head.partition(b" ")[2].partition(b" ")[0]
        delay, answer = self._answer(path, body)
        if delay:
            asyncio.get_running_loop().call_later(delay, self._write, answer)
        else:
            self._write(answer)

    def _write(self, body: bytes) -> None:
        status = b"201 Created" if body.startswith(b'{"sid"') else b"200 OK"
        self._transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
        )

    def _answer(self, path: bytes, body: bytes) -> tuple[float, bytes]:
        """Seconds until the answer, and the answer."""
        state = self._state
        if path.startswith(_TWILIO) and not body:
            return 0.0, b'{"messages": []}'
        if path.startswith(_TWILIO):
            form = parse_qs(body)
            state.replies.append((form[b"To"][0].decode(), time.monotonic()))
            return 0.0, b'{"sid": "SM%032x", "status": "queued"}' % next(_SID)
        if path.endswith((b"/chat/completions", b"/responses")):
            state.asked.append(time.monotonic())
            return state.thinking, _completion() if path.endswith(b"completions") else _response()
        if path.endswith(b"/conversations"):
            return 0.0, b'{"id": "conv_%048x", "object": "conversation", "created_at": 1, "metadata": {}}' % next(_SID)
        if path == b"/HEAD":
            return 0.0, b"%d" % len(state.replies)
        if path == b"/GET":
            return 0.0, json.dumps({"replies": state.replies, "asked": state.asked}).encode()
        if path == b"/DELETE":
            state.replies.clear()
            state.asked.clear()
            return 0.0, b"{}"
        # A conversation's items, which a turn that was interrupted looks at.
        return 0.0, b'{"object": "list", "data": [], "has_more": false}'


_SAYS = "Yes, we deliver on Sundays from nine to noon. Is there anything else?"


def _completion() -> bytes:
    message = {"role": "assistant", "content": _SAYS, "refusal": None}
    usage = {"prompt_tokens": 21, "completion_tokens": 17, "total_tokens": 38}
    return json.dumps(
        {
            "id": f"chatcmpl-{next(_SID)}",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-test",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": usage,
        }
    ).encode()


def _response() -> bytes:
    part = {"type": "output_text", "text": _SAYS, "annotations": [], "logprobs": []}
    number = next(_SID)
    item = {"id": f"msg_{number}", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    return json.dumps(
        {
            "id": f"resp_{number}",
            "object": "response",
            "created_at": 1,
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "model": "gpt-test",
            "output": [item],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": 21,
                "input_tokens_details": {"cached_tokens": 5},
                "output_tokens": 17,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 38,
            },
        }
    ).encode()


async def _serve(port: int, thinking: float) -> None:
    state = _State(thinking)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(state), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outside")
    parser.add_argument("port", type=int)
    parser.add_argument("--thinking", type=float, default=0.0, help="seconds that the AI takes to answer")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.port, options.thinking))
