"""The OpenAI SDK's client, and the one mapping of its errors, for every adapter that speaks OpenAI's protocol.

The adapters openai_responses, openai_chat, openai_threads and openai_vector_stores stand on it. Nothing here retries:
how often to ask again is decided in one place, the flow. A vendor's words never leave: they may quote the customer or
the key.
"""

from __future__ import annotations

import json
import re
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

from chatbotctl.core.adapters.retry_after import seconds_to_wait
from chatbotctl.core.errors import AssistantError, AssistantNotUsable, ThreadGone
from chatbotctl.core.web_address import is_web_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai import APIConnectionError, APIStatusError, OpenAI, Timeout

#: Given explicitly, because the SDK would otherwise take OPENAI_BASE_URL from the environment, behind our settings.
OPENAI_URL = "https://api.openai.com/v1"
#: What servers that ask for no key are sent: the SDK cannot do without one, and would look for one in the environment.
NO_KEY = "no-key"
#: Seconds to reach the server at all: a dead host should not use up the time that the model needs to think.
CONNECT_SECONDS = 5.0

_KEY_HINT = "Set a key with `chatbotctl business credentials set NAME openai`, or OPENAI_API_KEY for all businesses."
_CODE = re.compile(r"[a-zA-Z][a-zA-Z_]{1,59}")
#: In the code or type of a 429 that waiting does not mend.
_SPENT = ("quota", "billing", "spend", "credit")
_ABOUT_CONVERSATION = re.compile(r"\b(conversation|thread)s?\b", re.IGNORECASE)
_RUN_ACTIVE = re.compile(r"while a run \S+ is active|already has an active run", re.IGNORECASE)


class LazyClient:
    """One SDK client for one key and one server, made on first use and shared by threads.

    The import alone takes about 400 ms, so an adapter that is never asked never pays for it.
    """

    def __init__(self, *, api_key: str | None, base_url: str | None) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._lock = threading.Lock()
        self._client: OpenAI | None = None

    def get(self) -> OpenAI:
        """The client. Raises AssistantNotUsable when the key or the address cannot be used at all."""
        with self._lock:
            if self._client is None:
                self._client = self._make()
            return self._client

    def close(self) -> None:
        """Close the client's connections; the next `get` makes a new one."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def check(self) -> None:
        """Raise AssistantNotUsable when the key or the address cannot be used at all. Asks nobody, loads nothing."""
        self._key()

    def _key(self) -> str:
        key = (self._api_key or "").strip()
        if not key and self._base_url is None:
            raise AssistantNotUsable("There is no API key for the AI provider.", hint=_KEY_HINT)
        if not (key.isascii() and key.isprintable()):
            # Left to the HTTP library, the error would show the key.
            raise AssistantNotUsable("The API key has characters that no key has.", hint=_KEY_HINT)
        if self._base_url is not None and not is_web_address(self._base_url):
            raise AssistantNotUsable(
                "The AI provider's base URL is not an http or https address.",
                hint="Set one by `chatbotctl business update NAME --base-url https://host/v1`, or openai.base_url.",
            )
        return key

    def _make(self) -> OpenAI:
        key = self._key()
        from openai import OpenAI

        from chatbotctl.core.adapters.openai_transport import http_client

        client = OpenAI(
            api_key=key or NO_KEY,
            base_url=self._base_url or OPENAI_URL,
            max_retries=0,
            http_client=http_client(),
        )
        weakref.finalize(self, client.close)  # an adapter that is dropped leaves no sockets open
        return client


def post(client: OpenAI, path: str, body: Mapping[str, object], *, timeout: float) -> object:
    """What the server answers to `body` within `timeout` seconds, as plain attributes; it may be anything.

    The SDK's own client sends it and raises its errors. What is left out is the SDK's reading of each field of request
    and answer by its type, which takes more processor time than all else of the call: a request is JSON already, and
    nothing that a server sends is believed here anyway.
    """
    import httpx2

    response = client.post(path, cast_to=httpx2.Response, body=body, options={"timeout": patience(timeout)})
    return json.loads(response.content, object_hook=lambda fields: SimpleNamespace(**fields))


def patience(seconds: float) -> Timeout:
    """The SDK's timeout for one request: `seconds` for the answer, of which at most 5 to connect."""
    from openai import Timeout

    return Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))


@contextmanager
def provider_errors(*, handle: str | None = None) -> Iterator[None]:
    """Turn everything that the SDK raises inside the block into AssistantError.

    `handle` is the conversation that the block asks for: a 404 about it becomes ThreadGone. One about the model or
    a vector store does not, and without a handle none does.
    """
    import openai

    try:
        yield
    except openai.APIStatusError as exc:
        raise _from_status(exc, handle) from _wordless(exc)
    except openai.APIConnectionError as exc:
        raise _from_connection(exc) from exc
    except (openai.OpenAIError, json.JSONDecodeError, UnicodeDecodeError) as exc:
        raise unreadable() from _wordless(exc)
    except UnicodeEncodeError as exc:
        raise AssistantError("The text cannot be sent: it holds half a character.", reason="unsendable") from exc


def code_or(code: object, otherwise: str) -> str:
    """`code` if it reads as one of the provider's codes, like `rate_limit_exceeded`.

    Whatever has digits or other signs in it does not: it might be a key, a number or somebody's words.
    """
    return code if isinstance(code, str) and _CODE.fullmatch(code) else otherwise


def unreadable() -> AssistantError:
    """What came back is no answer of the protocol: mostly a proxy's page, or a server that breaks down."""
    return AssistantError("The AI provider's answer could not be read.", reason="unreadable", retryable=True)


def _wordless(exc: Exception) -> Exception:
    """Take the words out of an SDK exception: as a cause it is printed in tracebacks, and it may quote anything."""
    exc.args = ("(the provider's words are left out)",)
    return exc


def _from_connection(exc: APIConnectionError) -> AssistantError:
    import httpx2
    import openai

    # Without a connection nothing was asked. After one, the server may have answered into the void.
    unsent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
    unknown = not isinstance(exc.__cause__, unsent)
    if isinstance(exc, openai.APITimeoutError):
        return AssistantError(
            "The AI provider took too long.", reason="timeout", retryable=True, unknown_outcome=unknown
        )
    return AssistantError(
        "The connection to the AI provider failed.", reason="connection", retryable=True, unknown_outcome=unknown
    )


def _from_status(exc: APIStatusError, handle: str | None) -> AssistantError:
    """THE table: an HTTP status and the provider's code -> what it means for us."""
    status, reason = exc.status_code, code_or(exc.code, str(exc.status_code))
    if status == 404 and handle is not None and _is_about(exc, handle):
        return ThreadGone(reason=reason)
    if status == 429 and any(word in f"{exc.code} {exc.type}".lower() for word in _SPENT):
        return AssistantError(
            "The AI provider's quota or spend limit is used up.",
            reason=reason,
            hint="Raise the limit or add credit at the provider.",
        )
    if status == 400 and (exc.code == "conversation_locked" or _RUN_ACTIVE.search(exc.message)):
        return AssistantError(
            "The AI provider is still busy with this conversation's turn before.",
            reason=reason if exc.code else "run_active",
            retryable=True,
            still_busy=True,
            retry_after=_retry_after(exc.response.headers),
        )
    sentence, hint = _SENTENCES.get(status, _SENTENCES[500] if status >= 500 else _SENTENCES[400])
    return AssistantError(
        sentence,
        reason=reason,
        hint=hint,
        retryable=status in (408, 409, 429) or status >= 500,
        # 503 is said up front. Any other 5xx may come after the turn was run, from a gateway above all.
        unknown_outcome=status >= 500 and status != 503,
        retry_after=_retry_after(exc.response.headers),
    )


#: Status -> sentence and hint. 400 stands for every other 4xx, 500 for every 5xx.
_SENTENCES: Mapping[int, tuple[str, str | None]] = {
    400: ("The AI provider refused the request.", None),
    401: ("The AI provider refused the API key.", _KEY_HINT),
    403: ("The AI provider does not allow this API key to do that.", _KEY_HINT),
    404: (
        "The AI provider does not know something that this business names.",
        "Check its model, assistant id, vector stores and base URL with `chatbotctl business show`.",
    ),
    408: ("The AI provider took too long.", None),
    409: ("The AI provider reported a conflict with another request.", None),
    429: ("The AI provider asked to slow down.", None),
    500: ("The AI provider failed.", None),
}


def _is_about(exc: APIStatusError, handle: str) -> bool:
    """Whether a 404 speaks of the conversation: servers name it by id, by kind or by parameter, or not at all."""
    if exc.code == "model_not_found":
        return False
    return handle in exc.message or bool(_ABOUT_CONVERSATION.search(f"{exc.message} {exc.param}"))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: OpenAI's own `retry-after-ms`, or the standard header."""
    milliseconds = seconds_to_wait(headers.get("retry-after-ms"))
    return seconds_to_wait(headers.get("retry-after")) if milliseconds is None else milliseconds / 1000
