"""Translation by Google Cloud Translation, basic edition (v2).

Built by wiring when `translate.enabled` is set; the flow calls it from many threads, on the way of a reply. So each
call ends within its timeout, and after a failure of Google's the next ones fail at once for a while: whoever calls goes
on with the original text. It needs the extra `translate`.
"""

from __future__ import annotations

import concurrent.futures
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatbotctl.core.adapters.breaker import Breaker
from chatbotctl.core.adapters.retry_after import seconds_to_wait
from chatbotctl.core.errors import TranslationError
from chatbotctl.core.language_tag import LONGEST_LANGUAGE
from chatbotctl.core.records.assistant import Translation

if TYPE_CHECKING:
    import requests
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession
    from google.cloud.translate_v2 import Client

#: Seconds that Google is left alone after a failure that was not the text's own.
PAUSE_SECONDS = 30.0
#: The same when there are no usable credentials: to look for them again may take 10 s, and seldom helps.
NO_CREDENTIALS_PAUSE_SECONDS = 600.0

#: Connections kept open to Google: the default of `worker.concurrency`.
POOL_SIZE = 64

#: Answers that are about this text or this language: they say that Google is well.
TEXT_REFUSED = (400, 413)

_SCOPES = ("https://www.googleapis.com/auth/cloud-translation",)
#: Credentials files of workload identity and its kin.
_FEDERATED = ("external_account", "external_account_authorized_user", "impersonated_service_account")
#: Google names Chinese scripts by region.
_CHINESE = {"zh-hans": "zh-CN", "zh-sg": "zh-CN", "zh-hant": "zh-TW", "zh-hk": "zh-TW", "zh-mo": "zh-TW"}


class GoogleTranslate:
    """ports.Translator. Its client is made on first use, in a thread of its own, and shared by all threads.

    Arguments:
        endpoint: another server than Google's, asked without credentials (tests, proxies); None: Google's.
        credentials_file: a service account's or other Google credentials file; None: Google's default lookup.
        timeout_seconds: for one call in all that can be bounded: connecting, and each wait on an answer.
    """

    def __init__(self, *, endpoint: str | None, credentials_file: Path | None, timeout_seconds: float) -> None:
        self._endpoint = endpoint
        self._credentials_file = credentials_file
        self._timeout_seconds = timeout_seconds
        self._breaker = Breaker(open_seconds=PAUSE_SECONDS)
        self._lock = threading.Lock()
        self._client: concurrent.futures.Future[Client] | None = None
        #: Tags that Google refused with their region and takes without: en-US -> en.
        self._without_region: dict[str, str] = {}

    def translate(self, *, text: str, target_language: str) -> Translation:
        """Translate `text` into `target_language` (BCP 47); the answer names the language it was in.

        A region that Google does not tell apart is left out: `en-GB` is asked for as `en`, `pt-BR` as it is.
        Raises TranslationError; `reason` is `paused` while Google is left alone.
        """
        if not self._breaker.allows():
            raise TranslationError(
                "Google Translate failed a moment ago and is left alone for now.",
                reason="paused",
                retryable=True,
                retry_after=self._breaker.seconds_left,
            )
        target = self._without_region.get(target_language) or _google_tag(target_language)
        try:
            translation = self._ask(text, target)
        except TranslationError as exc:
            language = target.partition("-")[0]
            if exc.reason != "400" or language == target:
                raise
            translation = self._ask(text, language)
            self._without_region[target_language] = language
        return translation

    def _ask(self, text: str, target: str) -> Translation:
        try:
            translation = self._call(text, target)
        except TranslationError as exc:
            if exc.reason in map(str, TEXT_REFUSED):
                self._breaker.succeeded()
            else:
                pause = NO_CREDENTIALS_PAUSE_SECONDS if exc.reason == "credentials" else None
                self._breaker.failed(open_seconds=pause)
            raise
        self._breaker.succeeded()
        return translation

    def _call(self, text: str, target: str) -> Translation:
        client = self._ready_client()
        import requests
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.exceptions import GoogleAuthError

        try:
            # format_: the default, html, would make it&#39;s of it's.
            answer = client.translate(text, target_language=target, format_="text")
            language = str(answer.get("detectedSourceLanguage") or "")
            return Translation(
                text=str(answer["translatedText"]),
                source_language=language if 0 < len(language) <= LONGEST_LANGUAGE else None,
            )
        except (GoogleAPICallError, GoogleAuthError, requests.RequestException) as exc:
            raise _failure(exc) from exc
        except (ValueError, LookupError, TypeError, AttributeError):
            # Not `from exc`: what the client raises for an answer that does not fit holds the text itself.
            raise _unclear_answer() from None

    def _ready_client(self) -> Client:
        """The client, or TranslationError when making it fails or takes longer than a call may."""
        with self._lock:
            if self._client is None:
                self._client = concurrent.futures.Future()
                # A daemon: looking for credentials on a machine outside of Google's cloud may take 10 s, and neither
                # a reply nor the end of the process waits for that.
                threading.Thread(
                    target=self._make_client, args=(self._client,), name="google-translate", daemon=True
                ).start()
            pending = self._client
        try:
            return pending.result(timeout=self._timeout_seconds)
        except TimeoutError:
            raise TranslationError("Google Translate is not ready yet.", reason="starting", retryable=True) from None

    def _make_client(self, promise: concurrent.futures.Future[Client]) -> None:
        failure = TranslationError("The Google Translate client could not be started.", reason="not_started")
        try:
            promise.set_result(_client(self._endpoint, self._credentials_file, self._timeout_seconds))
        except TranslationError as exc:
            failure = exc
        finally:
            # Also after something unforeseen, which ends this thread: nobody may wait for a promise that no one keeps.
            if not promise.done():
                with self._lock:
                    self._client = None
                promise.set_exception(failure)


class _TimedSession:
    """What the client asks in place of its own session: keeps to our timeout whatever the client says."""

    def __init__(self, session: AuthorizedSession, timeout_seconds: float) -> None:
        self._session = session
        self._timeout_seconds = timeout_seconds

    def request(self, **options: Any) -> requests.Response:
        """Send one request. `timeout` bounds each wait, a token's included; `max_allowed_time` counts after each."""
        options |= {"timeout": self._timeout_seconds, "max_allowed_time": self._timeout_seconds}
        response: requests.Response = self._session.request(**options)
        return response


def _client(endpoint: str | None, credentials_file: Path | None, timeout_seconds: float) -> Client:
    """A client whose every request ends in time: Google's own waits 60 s, and 120 s for a token."""
    try:
        import google.auth.exceptions
        from google.auth.transport.requests import AuthorizedSession, Request
        from google.cloud.translate_v2 import Client
    except ImportError as exc:
        raise TranslationError(
            "The Google Translate client is not installed.",
            reason="not_installed",
            hint="pip install 'chatbotctl[translate]'",
        ) from exc
    import requests
    from requests.adapters import HTTPAdapter

    try:
        credentials = _credentials(endpoint, credentials_file)
        # A plain session for tokens: the one that AuthorizedSession makes for itself tries four times.
        session = AuthorizedSession(credentials, auth_request=Request(requests.Session()))
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=POOL_SIZE))
        options = {"api_endpoint": endpoint.rstrip("/")} if endpoint else None
        timed = _TimedSession(session, timeout_seconds)
        return Client(credentials=credentials, _http=timed, client_options=options)
    except (google.auth.exceptions.GoogleAuthError, OSError, ValueError) as exc:
        raise _no_credentials("There are no usable Google credentials.") from exc


def _credentials(endpoint: str | None, credentials_file: Path | None) -> Credentials:
    import google.auth
    import google.auth.credentials

    if endpoint:
        return google.auth.credentials.AnonymousCredentials()
    if credentials_file is None:
        credentials, _ = google.auth.default(scopes=_SCOPES)
        return credentials
    return _from_file(credentials_file)


def _from_file(path: Path) -> Credentials:
    """The credentials of a file that the operator named. ValueError or OSError when it holds none."""
    import google.auth
    import google.oauth2.credentials
    from google.oauth2 import service_account

    credentials: Credentials
    content = json.loads(path.read_text("utf-8"))
    kind = content.get("type") if isinstance(content, dict) else None
    if kind == "service_account":
        credentials = service_account.Credentials.from_service_account_info(content, scopes=_SCOPES)
    elif kind == "authorized_user":
        credentials = google.oauth2.credentials.Credentials.from_authorized_user_info(content, scopes=_SCOPES)
    elif kind in _FEDERATED:
        # Google's loader is deprecated because the file may come from anybody; this one the operator named.
        credentials, _ = google.auth.load_credentials_from_file(str(path), scopes=_SCOPES)
    else:
        raise ValueError("no credentials that Google's client knows")
    return credentials


def _google_tag(tag: str) -> str:
    """A BCP 47 tag as Google spells it: zh-Hant-HK -> zh-TW, pt_br -> pt-BR."""
    language, *rest = tag.replace("_", "-").split("-")
    for part in rest:
        if chinese := _CHINESE.get(f"{language}-{part}".lower()):
            return chinese
    region = next((part.upper() for part in rest if len(part) == 2), None)
    return f"{language.lower()}-{region}" if region else language.lower()


def _failure(exc: Exception) -> TranslationError:
    """The error for what the client raised. `reason` is the HTTP status where Google answered."""
    import requests
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError, TransportError

    if isinstance(exc, GoogleAPICallError):
        return _refused(int(exc.code or 0), exc.errors, exc.response)
    if isinstance(exc, requests.Timeout):
        return TranslationError("Google Translate did not answer in time.", reason="timeout", retryable=True)
    if isinstance(exc, requests.JSONDecodeError):
        return _unclear_answer()
    if isinstance(exc, GoogleAuthError) and not isinstance(exc, TransportError):
        return _no_credentials("Google refused the credentials.")
    return TranslationError(
        "Google Translate cannot be reached.",
        reason="unreachable",
        retryable=True,
        hint="Check translate.endpoint (TRANSLATE_ENDPOINT) if it is set.",
    )


def _refused(status: int, details: Sequence[Any], response: Any) -> TranslationError:
    """The error for an answer that is not a success; v2 reports used-up quotas as 403 with a reason of its own."""
    reasons = {detail.get("reason") for detail in details if isinstance(detail, dict)}
    busy = status == 429 or bool(reasons & {"rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded"})
    if busy:
        sentence = "Google Translate takes no more requests at the moment."
    elif status in TEXT_REFUSED:
        sentence = "Google Translate does not take this text or this language."
    elif status in (401, 403):
        return _no_credentials("Google refused the credentials, or the project has no Cloud Translation API.")
    else:
        sentence = f"Google Translate answered with status {status}."
    return TranslationError(
        sentence,
        reason=str(status),
        retryable=busy or status >= 500,
        retry_after=seconds_to_wait(getattr(response, "headers", {}).get("Retry-After")),
    )


def _no_credentials(sentence: str) -> TranslationError:
    return TranslationError(
        sentence,
        reason="credentials",
        hint="Set translate.credentials_file (GOOGLE_APPLICATION_CREDENTIALS) to a service account's key file.",
    )


def _unclear_answer() -> TranslationError:
    return TranslationError("Google Translate's answer makes no sense.", reason="unclear_answer")
