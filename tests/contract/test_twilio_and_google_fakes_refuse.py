"""The fakes refuse what Twilio and Google refuse, and list what Twilio lists: else the tests on them prove nothing."""

from __future__ import annotations

import datetime as dt

import pytest
import requests
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from tests.fakes.google_server import FakeGoogleTranslate
from tests.fakes.twilio_server import ACCOUNT, TOKEN, FakeTwilio

BUSINESS, CUSTOMER = "whatsapp:+15550001111", "whatsapp:+15552223333"


@pytest.fixture
def client(fake_twilio: FakeTwilio) -> Client:
    client = Client(ACCOUNT, TOKEN, http_client=TwilioHttpClient(timeout=5))
    client.api.base_url = fake_twilio.url
    return client


def messages_url(fake: FakeTwilio, account: str = ACCOUNT) -> str:
    return f"{fake.url}/2010-04-01/Accounts/{account}/Messages.json"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"Body": "x" * 1601}, 21617),
        ({"Body": None}, 21619),
        ({"Body": "  "}, 21602),
        ({"To": None}, 21604),
        ({"To": "whatsapp:5552223333"}, 21211),
        ({"To": "+15552223333"}, 21910),
        ({"From": None}, 21603),
        ({"From": "+15550001111"}, 21910),
        ({"From": "whatsapp:+15550009999"}, 63007),
        ({"From": CUSTOMER}, 63031),
        ({"StatusCallback": "bot.example.com/whatsapp/status"}, 21609),
        ({"StatusCallback": "https://my_bot.example.com/whatsapp/status"}, 21609),
        ({"StatusCallback": f"https://bot.example.com/{'x' * 4_000}"}, 21609),
    ],
)
def test_twilio_refuses_a_bad_message(fake_twilio: FakeTwilio, changed: dict[str, str | None], code: int) -> None:
    fake_twilio.senders = {BUSINESS}
    form = {"To": CUSTOMER, "From": BUSINESS, "Body": "Hi"} | changed
    answer = requests.post(messages_url(fake_twilio), data=form, auth=(ACCOUNT, TOKEN), timeout=5)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert fake_twilio.messages == []


def test_twilio_takes_a_status_callback_that_is_an_address(fake_twilio: FakeTwilio, client: Client) -> None:
    client.messages.create(to=CUSTOMER, from_=BUSINESS, body="Hi", status_callback="https://bot.example.com/status")
    assert fake_twilio.sent() == ["Hi"]


@pytest.mark.parametrize("auth", [None, (ACCOUNT, "wrong"), ("AC" + "1" * 32, TOKEN), ("", "")])
def test_twilio_refuses_wrong_credentials(fake_twilio: FakeTwilio, auth: tuple[str, str] | None) -> None:
    form = {"To": CUSTOMER, "From": BUSINESS, "Body": "Hi"}
    answer = requests.post(messages_url(fake_twilio), data=form, auth=auth, timeout=5)
    assert (answer.status_code, answer.json()["code"]) == (401, 20003)
    assert fake_twilio.messages == []


def test_twilio_refuses_json_and_unknown_paths(fake_twilio: FakeTwilio) -> None:
    answer = requests.post(messages_url(fake_twilio), json={"To": CUSTOMER}, auth=(ACCOUNT, TOKEN), timeout=5)
    assert answer.status_code == 400
    assert requests.get(fake_twilio.url + "/2010-04-01/Calls.json", timeout=5).status_code == 404


def test_twilio_shows_one_account_nothing_of_another(fake_twilio: FakeTwilio, client: Client) -> None:
    other = "AC" + "1" * 32
    fake_twilio.accounts[other] = "other-token"
    sid = client.messages.create(to=CUSTOMER, from_=BUSINESS, body="Hi").sid
    answer = requests.get(messages_url(fake_twilio, other), auth=(other, "other-token"), timeout=5)
    assert answer.json()["messages"] == []
    one = requests.get(
        messages_url(fake_twilio, other).replace(".json", f"/{sid}.json"), auth=(other, "other-token"), timeout=5
    )
    assert one.status_code == 404


def test_twilio_finds_messages_by_sid_party_and_time_newest_first(fake_twilio: FakeTwilio, client: Client) -> None:
    started = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=2)
    first = client.messages.create(to=CUSTOMER, from_=BUSINESS, body="one")
    client.messages.create(to=CUSTOMER, from_=BUSINESS, body="two")
    client.messages.create(to="whatsapp:+15554445555", from_=BUSINESS, body="three")
    assert client.messages(first.sid).fetch().body == "one"
    assert [message.body for message in client.messages.list(to=CUSTOMER, from_=BUSINESS)] == ["two", "one"]
    assert client.messages.list(date_sent_after=started) == [], "what is queued has no date of sending yet"
    for message in fake_twilio.messages:
        message["date_sent"] = message["date_created"]
    found = client.messages.list(to=CUSTOMER, from_=BUSINESS, date_sent_after=started)
    assert [message.body for message in found] == ["two", "one"]
    assert client.messages.list(date_sent_after=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)) == []
    assert len(client.messages.list(date_sent_before=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))) == 3
    assert len(client.messages.list(page_size=1)) == 3
    assert fake_twilio.sent(to=CUSTOMER) == ["one", "two"]
    with pytest.raises(TwilioRestException, match="not found"):
        client.messages("SM" + "0" * 32).fetch()


def ask_google(fake: FakeGoogleTranslate, **changed: object) -> requests.Response:
    asked = {"q": ["it's"], "target": "es", "format": "text"} | changed
    return requests.post(fake.url + "/language/translate/v2", json=asked, timeout=5)


@pytest.mark.parametrize(
    "changed",
    [
        {"target": None},
        {"target": "en-US"},
        {"target": "EN"},
        {"format": "markdown"},
        {"q": []},
        {"q": ["x" * 30_001]},
        {"q": ["x"] * 129},
    ],
)
def test_google_refuses_a_bad_request(fake_google: FakeGoogleTranslate, changed: dict[str, object]) -> None:
    assert ask_google(fake_google, **changed).status_code == 400


def test_google_refuses_a_body_that_is_no_json(fake_google: FakeGoogleTranslate) -> None:
    headers = {"Content-Type": "application/json"}
    answer = requests.post(fake_google.url + "/language/translate/v2", data=b"{", headers=headers, timeout=5)
    assert answer.status_code == 400


def test_google_escapes_a_text_that_it_was_not_told_is_plain(fake_google: FakeGoogleTranslate) -> None:
    def text(format_: str | None) -> object:
        return ask_google(fake_google, format=format_).json()["data"]["translations"][0]["translatedText"]

    assert (text(None), text("html"), text("text")) == ("[es] it&#x27;s", "[es] it&#x27;s", "[es] it's")


def test_google_refuses_a_wrong_token(fake_google: FakeGoogleTranslate) -> None:
    fake_google.token = "tok"
    assert ask_google(fake_google).status_code == 401
    assert requests.get(fake_google.url + "/language/translate/v2/languages", timeout=5).status_code == 404
