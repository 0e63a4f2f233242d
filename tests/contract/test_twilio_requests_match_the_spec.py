"""What we send to Twilio, and what the fake answers, against Twilio's own OpenAPI description."""

from __future__ import annotations

from chatbotctl.core.adapters.twilio_whatsapp import TwilioWhatsApp
from tests.fakes.twilio_server import ACCOUNT, TOKEN, FakeTwilio
from tests.specs import answer_violations, needs_specs, violations

pytestmark = needs_specs


def test_a_sent_message_is_as_twilio_describes_it(fake_twilio: FakeTwilio) -> None:
    messenger = TwilioWhatsApp(account_sid=ACCOUNT, auth_token=TOKEN, api_base_url=fake_twilio.url, timeout_seconds=5)
    messenger.send(sender="whatsapp:+15550001111", recipient="whatsapp:+15552223333", body="Hello 👋")
    (request,) = fake_twilio.requests
    assert violations("twilio_messages", request.method, request.path, form=request.form) == []
    (message,) = fake_twilio.messages
    assert answer_violations("twilio_messages", "POST", request.path, status=201, body=message) == []


def test_a_misspelt_field_would_be_noticed() -> None:
    path = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    assert violations("twilio_messages", "POST", path, form={"To": "whatsapp:+1555", "Bodi": "Hello"})
