"""WhatsApp messages out, through Twilio's Messages resource.

Built by wiring, one per account; the flow calls it from many threads at once. It sends once and says precisely what is
known about a failure; whether to look, and when to try again, is the flow's: Twilio takes no idempotency key.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chatbotctl.core.adapters.retry_after import seconds_to_wait
from chatbotctl.core.errors import MessengerError
from chatbotctl.core.log import event
from chatbotctl.core.records.turn import SentMessage
from chatbotctl.core.twilio_codes import SENTENCES

if TYPE_CHECKING:
    from twilio.rest import Client

#: Connections kept open to Twilio: the default of `worker.concurrency`. More senders than this still work; they open
#: connections of their own and close them afterwards.
POOL_SIZE = 64

#: Messages of one conversation that are looked through for one whose fate is unknown: it is among the newest.
NEWEST = 50
#: Seconds by which Twilio's clock and the database's may differ.
CLOCKS_APART = 120.0

#: Twilio's code for a status callback that it cannot call.
_BAD_CALLBACK = "21609"
#: Where the SDK sends messages unless told otherwise.
TWILIO_URL = "https://api.twilio.com"


class TwilioWhatsApp:
    """ports.Messenger for one Twilio account. Its client is made on first use and shared by all threads.

    Arguments:
        account_sid: `AC...`, the account that sends.
        auth_token: the account's secret.
        api_base_url: another server than Twilio's own (tests, proxies); None: Twilio's.
        timeout_seconds: for the connection and again for each wait on an answer; the SDK itself would wait for ever.
        status_callback: the address that Twilio tells what becomes of each message; None: it tells nobody.
    """

    def __init__(
        self,
        *,
        account_sid: str,
        auth_token: str,
        api_base_url: str | None,
        timeout_seconds: float,
        status_callback: str | None = None,
    ) -> None:
        self._account_sid = account_sid
        self._auth_token = auth_token
        self._api_base_url = api_base_url
        self._timeout_seconds = timeout_seconds
        self._status_callback = status_callback
        self._lock = threading.Lock()
        self._client: Client | None = None
        #: `seconds`: the Retry-After of this thread's last answer. The SDK's exceptions do not carry headers.
        self._retry_after = threading.local()

    def send(self, *, sender: str, recipient: str, body: str) -> SentMessage:
        """Send one message of 1 to 1,600 characters, once, without any retry of its own.

        Raises MessengerError: `retryable` when it may get through another time, and beside it `unknown_outcome` when
        Twilio may have taken it this time. Its `reason` is Twilio's error code where there is one.
        """
        try:
            return self._send(sender, recipient, body)
        except MessengerError as error:
            if error.reason != _BAD_CALLBACK or self._status_callback is None:
                raise
        # Nothing was taken. That nobody will be told of its delivery must not keep the customer's reply back.
        event("status_callback_refused", level="warning")
        self._status_callback = None
        return self._send(sender, recipient, body)

    def _send(self, sender: str, recipient: str, body: str) -> SentMessage:
        told = {} if self._status_callback is None else {"status_callback": self._status_callback}
        with self._errors_mapped() as client:
            message = client.messages.create(to=recipient, from_=sender, body=body, **told)
        if not message.sid:
            raise _unclear_answer()
        return SentMessage(sid=str(message.sid), status=str(message.status))

    def find(self, *, sender: str, recipient: str, body: str, since: float) -> list[SentMessage]:
        """Messages with exactly this text among the newest to the recipient, newest first; raises as `send`.

        Not by Twilio's own filter for dates: that one reads the date of sending, which a queued message has not yet.
        """
        with self._errors_mapped() as client:
            listed = client.messages.list(to=recipient, from_=sender, limit=NEWEST, page_size=NEWEST)
        return [
            SentMessage(
                sid=str(message.sid),
                status=str(message.status),
                error_code=str(message.error_code) if message.error_code else None,
            )
            for message in listed
            if _same_text(message.body, body)
            and (message.date_created is None or message.date_created.timestamp() >= since - CLOCKS_APART)
        ]

    @contextmanager
    def _errors_mapped(self) -> Iterator[Client]:
        """The client, for one call; what the call raises becomes a MessengerError."""
        import requests
        from twilio.base.exceptions import TwilioException

        self._retry_after.seconds = None
        try:
            yield self._twilio()
        except TwilioException as exc:
            raise _refused(exc, getattr(self._retry_after, "seconds", None)) from exc
        except requests.RequestException as exc:
            raise _unreachable(exc) from exc
        except UnicodeError:
            # Not `from exc`: a UnicodeError holds the whole text.
            raise MessengerError("The message holds text that cannot be sent.", reason="unreadable_text") from None
        except (ValueError, TypeError, AttributeError, KeyError) as exc:
            # The SDK takes an answer apart without looking whether it is JSON, or an object.
            raise _unclear_answer() from exc

    def _twilio(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = self._make_client()
            return self._client

    def _make_client(self) -> Client:
        from requests.adapters import HTTPAdapter
        from twilio.http.http_client import TwilioHttpClient
        from twilio.rest import Client

        http = TwilioHttpClient(
            timeout=self._timeout_seconds,
            request_hooks={"response": self._note_retry_after},
            # A logger that stands outside of logging's tree: the SDK's would write the account and all headers at INFO.
            logger=logging.Logger("twilio", level=logging.WARNING),
        )
        assert http.session is not None, "TwilioHttpClient keeps a session unless told otherwise"
        for scheme in ("https://", "http://"):
            http.session.mount(scheme, HTTPAdapter(pool_maxsize=POOL_SIZE))
        # What the environment says of proxies and certificates holds for the process: looked up anew for each message,
        # it takes a fifth of the call.
        said = http.session.merge_environment_settings(self._api_base_url or TWILIO_URL, {}, None, None, None)
        http.session.proxies, http.session.verify = dict(said["proxies"]), said["verify"]
        http.session.trust_env = False
        if self._api_base_url is None:
            return Client(self._account_sid, self._auth_token, http_client=http)
        # A non-empty environment of our own: TWILIO_REGION and TWILIO_EDGE would rewrite the host we were given.
        environment = {"TWILIO_ACCOUNT_SID": self._account_sid}
        client = Client(self._account_sid, self._auth_token, http_client=http, environment=environment)
        client.api.base_url = self._api_base_url
        return client

    def _note_retry_after(self, response: Any, *_: object, **__: object) -> None:
        self._retry_after.seconds = seconds_to_wait(response.headers.get("Retry-After"))


def _same_text(listed: str | None, body: str) -> bool:
    """Whether a message in Twilio's list says this; line ends and blanks around it are not Twilio's to keep."""
    return listed is not None and listed.split() == body.split()


def _status_and_code(exc: Exception) -> tuple[int | None, int | str | None]:
    """The HTTP status and Twilio's own code in one of the SDK's exceptions; a list's has only the whole answer."""
    status = getattr(exc, "status", None)
    code = getattr(exc, "code", None)
    answer: Any = exc.args[-1] if exc.args else None
    if status is None and hasattr(answer, "status_code"):
        status = answer.status_code
        try:
            code = json.loads(answer.text).get("code")
        except (ValueError, AttributeError):
            code = None
    return status, code or status


def _refused(exc: Exception, retry_after: float | None) -> MessengerError:
    """The error for an answer of Twilio's that is not a success."""
    status, code = _status_and_code(exc)
    if status is None:
        # None of its answers' exceptions: the SDK would not even ask.
        return MessengerError("The Twilio SDK refused to send the message.", reason=type(exc).__name__)
    reason = str(code)
    if status >= 500:
        return MessengerError(
            "Twilio failed while it handled the message.",
            reason=reason,
            retryable=True,
            unknown_outcome=True,
            retry_after=retry_after,
        )
    busy = status == 429 or reason == "20429"
    sentence = SENTENCES.get(reason) or (SENTENCES["20429"] if busy else f"Twilio refused the message ({reason}).")
    hint = "Check TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or the business's own credentials."
    return MessengerError(
        sentence,
        reason=reason,
        retryable=busy,
        retry_after=retry_after,
        hint=hint if status == 401 or reason in ("20003", "20404") else None,
    )


def _unreachable(exc: Exception) -> MessengerError:
    """The error for a request without an answer: harmless only when no connection was ever made."""
    import ssl

    import requests
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError

    never_connected = (ConnectTimeoutError, NewConnectionError, ProxyError, ssl.SSLCertVerificationError)
    if isinstance(exc, requests.ConnectTimeout) or any(isinstance(cause, never_connected) for cause in _causes(exc)):
        return MessengerError("Twilio cannot be reached.", reason="unreachable", retryable=True)
    if isinstance(exc, requests.Timeout):
        return _unknown("Twilio did not answer in time.", "timeout")
    if isinstance(exc, ValueError) and not isinstance(exc, requests.JSONDecodeError):
        # requests says InvalidURL, InvalidSchema, InvalidHeader...: nothing was sent, and nothing ever will be.
        return MessengerError(
            "The request to Twilio could not be made.",
            reason=type(exc).__name__,
            hint="Check twilio.api_base_url (TWILIO_API_BASE_URL).",
        )
    return _unknown("The connection to Twilio broke.", "connection_lost")


def _causes(exc: BaseException) -> Iterator[object]:
    """What lies inside a requests error: urllib3 wraps the cause in `reason`, requests keeps that in `args`."""
    waiting: list[object] = [exc]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop()
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [*cause.args, getattr(cause, "reason", None)]


def _unclear_answer() -> MessengerError:
    return _unknown("Twilio's answer makes no sense.", "unclear_answer")


def _unknown(message: str, reason: str) -> MessengerError:
    return MessengerError(message, reason=reason, retryable=True, unknown_outcome=True)
