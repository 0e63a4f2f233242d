"""The port Translator: Google Translate against a loopback Google."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import pytest
import responses

from chatbotctl.core.adapters import google_translate
from chatbotctl.core.adapters.google_translate import GoogleTranslate
from chatbotctl.core.errors import TranslationError
from chatbotctl.core.records.assistant import Translation
from tests.fakes.google_server import FakeGoogleTranslate, refusal
from tests.fakes.loopback import Response

SECRET_TEXT = "canary-text-of-the-customer"


def google(fake: FakeGoogleTranslate, *, timeout: float = 10.0) -> GoogleTranslate:
    return GoogleTranslate(endpoint=fake.url, credentials_file=None, timeout_seconds=timeout)


@pytest.fixture
def translator(fake_google: FakeGoogleTranslate) -> GoogleTranslate:
    return google(fake_google)


def failure(translator: GoogleTranslate, target: str = "es") -> TranslationError:
    with pytest.raises(TranslationError) as raised:
        translator.translate(text=SECRET_TEXT, target_language=target)
    error = raised.value
    chain = f"{error.message} {error.hint} {error.reason} {error.__cause__}"
    assert SECRET_TEXT not in chain
    return error


def test_a_text_comes_back_in_the_other_language_with_its_own_named(
    fake_google: FakeGoogleTranslate, translator: GoogleTranslate
) -> None:
    fake_google.dictionary = {("Good morning", "es"): "Buenos días"}
    fake_google.languages = lambda text: "en"
    assert translator.translate(text="Good morning", target_language="es") == Translation(
        text="Buenos días", source_language="en"
    )


def test_language_that_is_too_long_to_be_one_is_none(
    fake_google: FakeGoogleTranslate, translator: GoogleTranslate
) -> None:
    """The store would refuse it, again and again."""
    fake_google.languages = lambda text: "x" * 21
    assert translator.translate(text="Good morning", target_language="es").source_language is None
    fake_google.languages = lambda text: "x" * 20
    assert translator.translate(text="Good morning", target_language="es").source_language == "x" * 20


@pytest.mark.parametrize("text", ["it's <b>&amp;</b>", 'say "hi"', "line\none", "世界 👋🏽", "a" * 5000])
def test_punctuation_comes_back_as_it_was_and_not_as_html(
    fake_google: FakeGoogleTranslate, translator: GoogleTranslate, text: str
) -> None:
    assert translator.translate(text=text, target_language="es").text == f"[es] {text}"


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("es", ["es"]),
        ("ES", ["es"]),
        ("pt-BR", ["pt-BR"]),
        ("pt_br", ["pt-BR"]),
        ("en-GB", ["en-GB", "en"]),
        ("zh-Hant", ["zh-TW"]),
        ("zh-Hans-CN", ["zh-CN"]),
        ("zh-HK", ["zh-TW"]),
        ("sr-Latn", ["sr"]),
    ],
)
def test_a_language_with_a_region_is_asked_for_as_near_as_google_knows_it(
    fake_google: FakeGoogleTranslate, translator: GoogleTranslate, asked: str, sent: list[str]
) -> None:
    assert translator.translate(text="Hi", target_language=asked).text == f"[{sent[-1]}] Hi"
    assert [target for _, target in fake_google.translated] == sent


def test_a_region_that_google_does_not_know_is_tried_only_once(
    fake_google: FakeGoogleTranslate, translator: GoogleTranslate
) -> None:
    for _ in range(3):
        translator.translate(text="Hi", target_language="en-GB")
    assert [target for _, target in fake_google.translated] == ["en-GB", "en", "en", "en"]


def test_many_threads_may_translate_at_once(translator: GoogleTranslate) -> None:
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: texts.append(translator.translate(text=str(n), target_language="es").text))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(texts) == sorted(f"[es] {n}" for n in range(20))


# when Google is not well


def test_after_a_failure_google_is_left_alone_for_a_while(
    fake_google: FakeGoogleTranslate, translator: GoogleTranslate
) -> None:
    fake_google.plan(response=Response(503, b"oops"))
    first, second = failure(translator), failure(translator)
    assert (first.reason, first.retryable) == ("503", True)
    assert (second.reason, second.retryable) == ("paused", True)
    assert second.retry_after is not None
    assert 0 < second.retry_after <= google_translate.PAUSE_SECONDS
    assert len(fake_google.requests) == 1


def test_a_hung_google_costs_one_timeout_and_not_one_for_every_message(fake_google: FakeGoogleTranslate) -> None:
    warm = google(fake_google)
    warm.translate(text="the imports are done now", target_language="es")
    translator = google(fake_google, timeout=0.3)
    fake_google.plan(times=100, delay=30)
    started = time.monotonic()
    reasons = [failure(translator).reason for _ in range(100)]
    assert reasons == ["timeout", *["paused"] * 99]
    assert time.monotonic() - started < 20


def test_google_is_asked_again_after_the_pause(
    fake_google: FakeGoogleTranslate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google_translate, "PAUSE_SECONDS", 0.05)
    translator = google(fake_google)
    fake_google.plan(cut=True)
    assert failure(translator).reason == "unreachable"
    time.sleep(0.06)
    assert translator.translate(text="Hi", target_language="es").text == "[es] Hi"


@pytest.mark.parametrize("target", ["klingon-XX", "tlhh", "", "!"])
def test_a_language_that_google_does_not_know_is_that_texts_own_failure(
    fake_google: FakeGoogleTranslate, translator: GoogleTranslate, target: str
) -> None:
    error = failure(translator, target)
    assert (error.reason, error.retryable) == ("400", False)
    assert translator.translate(text="Hi", target_language="es").text == "[es] Hi"


def test_a_text_that_is_too_long_is_its_own_failure(
    fake_google: FakeGoogleTranslate, translator: GoogleTranslate
) -> None:
    with pytest.raises(TranslationError) as raised:
        translator.translate(text="x" * 30_001, target_language="pt-BR")
    assert raised.value.reason == "400"
    assert translator.translate(text="Hi", target_language="pt-BR").text == "[pt-BR] Hi"


@pytest.mark.parametrize(
    "answer",
    [
        refusal(429, "Quota exceeded", "rateLimitExceeded", {"Retry-After": "9"}),
        refusal(403, "User Rate Limit Exceeded", "userRateLimitExceeded", {"Retry-After": "9.0"}),
    ],
)
def test_a_used_up_quota_may_be_tried_later(
    fake_google: FakeGoogleTranslate, translator: GoogleTranslate, answer: Response
) -> None:
    fake_google.plan(response=answer)
    error = failure(translator)
    assert (error.retryable, error.retry_after) == (True, 9.0)


@pytest.mark.parametrize("answer", [refusal(403, "API not enabled", "accessNotConfigured"), refusal(401, "Who?")])
def test_refused_credentials_name_the_setting_and_are_not_tried_again_soon(
    fake_google: FakeGoogleTranslate, translator: GoogleTranslate, answer: Response
) -> None:
    fake_google.plan(response=answer, times=5)
    error = failure(translator)
    assert (error.reason, error.retryable) == ("credentials", False)
    assert "GOOGLE_APPLICATION_CREDENTIALS" in (error.hint or "")
    waited = failure(translator).retry_after
    assert waited is not None
    assert waited > google_translate.PAUSE_SECONDS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"data": null}',
        b'{"data": {"translations": []}}',
        b'{"data": {"translations": [{}]}}',
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_and_never_a_translation(
    fake_google: FakeGoogleTranslate, translator: GoogleTranslate, body: bytes
) -> None:
    fake_google.plan(response=Response(200, body))
    assert failure(translator).reason == "unclear_answer"


def test_a_closed_port_is_an_error() -> None:
    with FakeGoogleTranslate() as fake:
        url = fake.url
    error = failure(GoogleTranslate(endpoint=url, credentials_file=None, timeout_seconds=10))
    assert (error.reason, error.retryable) == ("unreachable", True)


def test_an_endpoint_that_is_none_names_the_setting() -> None:
    error = failure(GoogleTranslate(endpoint="localhost:1", credentials_file=None, timeout_seconds=10))
    assert "TRANSLATE_ENDPOINT" in (error.hint or "")


# credentials


def test_the_operators_credentials_get_a_token_and_send_it(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text('{"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}')
    translator = GoogleTranslate(endpoint=None, credentials_file=path, timeout_seconds=10)
    with responses.RequestsMock() as http:
        http.post("https://oauth2.googleapis.com/token", json={"access_token": "tok", "expires_in": 3600})
        http.post(
            "https://translation.googleapis.com/language/translate/v2",
            json={"data": {"translations": [{"translatedText": "Hola", "detectedSourceLanguage": "en"}]}},
        )
        assert translator.translate(text="Hello", target_language="es").text == "Hola"
        asked = http.calls[-1].request
    assert asked.headers["authorization"] == "Bearer tok"
    assert json.loads(asked.body or "")["format"] == "text"


def test_a_service_accounts_key_file_is_asked_a_token_with(tmp_path: Path) -> None:
    translator = GoogleTranslate(endpoint=None, credentials_file=key_file(tmp_path / "key.json"), timeout_seconds=10)
    with responses.RequestsMock() as http:
        http.post("https://oauth2.example.com/token", status=400, json={"error": "invalid_grant"})
        error = failure(translator)
    assert error.reason == "credentials"


@pytest.mark.parametrize("content", [None, "not json", "[]", "{}", '{"type": "service_account"}', '{"type": "x"}'])
def test_a_file_that_holds_no_credentials_names_the_setting(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    error = failure(GoogleTranslate(endpoint=None, credentials_file=path, timeout_seconds=10))
    assert error.reason == "credentials"
    assert "translate.credentials_file" in (error.hint or "")


def test_without_the_package_the_hint_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.translate_v2", None)
    error = failure(GoogleTranslate(endpoint="http://127.0.0.1:1", credentials_file=None, timeout_seconds=10))
    assert (error.reason, error.hint) == ("not_installed", "pip install 'chatbotctl[translate]'")


def key_file(path: Path) -> Path:
    """A service account's key, made for this test."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    content = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "client_email": "bot@p.iam.example.com",
        "token_uri": "https://oauth2.example.com/token",
    }
    path.write_text(json.dumps(content))
    return path
