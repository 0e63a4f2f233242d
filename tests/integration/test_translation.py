"""Translation: for the assistant and back where that is on, for the people in Slack else; originals when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatbotctl.core.config import Key
from chatbotctl.core.records.message import Result
from chatbotctl.core.storage import conversations
from chatbotctl.core.wiring import Core
from tests.fakes.google_server import FakeGoogleTranslate, refusal
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import Vendors, add_business, answer, install, post_to_slack, sqlite_database

FOR_THE_ASSISTANT: dict[Key, object] = {("translate", "assistant"): True}
WORDS = {
    ("Vocês têm pão?", "en"): "Do you have bread?",
    ("Yes, we do.", "pt"): "Sim, temos.",
    ("Sim, temos.", "en"): "Yes, we do.",
}


@pytest.fixture
def google(fake_google: FakeGoogleTranslate) -> FakeGoogleTranslate:
    """Knows a few words; whatever is not English is Portuguese."""
    fake_google.dictionary = WORDS
    english = {text for text, target in WORDS if target == "pt"} | {"Hello", "You said: Hello"}
    fake_google.languages = lambda text: "en" if text in english else "pt"
    return fake_google


@pytest.fixture
def everything(vendors: Vendors, google: FakeGoogleTranslate) -> Vendors:
    return Vendors(openai=vendors.openai, twilio=vendors.twilio, slack=vendors.slack, google=google)


@contextmanager
def translating(vendors: Vendors, folder: Path, flags: dict[Key, object] | None = None) -> Iterator[Core]:
    named: dict[Key, object] = {("slack", "channel_name_template"): "c-{customer}"}
    with install(vendors, flags={**named, **(flags or {})}, database_url=sqlite_database(folder)) as core:
        yield core


def slack_shows(core: Core, slack: FakeSlack) -> list[str]:
    post_to_slack(core, 1)
    (channel,) = slack.channels
    return slack.texts(channel)


def test_assistant_works_in_its_language_and_the_customer_in_theirs(
    everything: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    fake_openai.reply = lambda _: "Yes, we do."
    with translating(everything, tmp_path, FOR_THE_ASSISTANT) as core:
        add_business(core, language="en")
        answer(core, "Vocês têm pão?", profile_name="Ana")

        assert fake_openai.asked[0].text == "Do you have bread?"
        assert fake_twilio.sent() == ["Sim, temos."]
        assert slack_shows(core, fake_slack) == [
            "Ana (+15552220000)\nVocês têm pão?\nTranslation\nDo you have bread?",
            "Assistant\nYes, we do.\nTranslation\nSim, temos.",
        ]
        with core.database.read() as tx:
            assert conversations.get(tx, 1).language == "pt"


def test_past_is_told_to_the_assistant_in_its_own_language(
    everything: Vendors, tmp_path: Path, fake_openai: FakeOpenAI
) -> None:
    fake_openai.reply = lambda _: "Yes, we do."
    with translating(everything, tmp_path, FOR_THE_ASSISTANT) as core:
        add_business(core, backend="chat", language="en")
        for _ in range(2):
            answer(core, "Vocês têm pão?")

    assert fake_openai.asked[-1].history == (("user", "Do you have bread?"), ("assistant", "Yes, we do."))


def test_each_text_is_translated_once(
    everything: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, google: FakeGoogleTranslate, fake_slack: FakeSlack
) -> None:
    fake_openai.reply = lambda _: "Yes, we do."
    with translating(everything, tmp_path, FOR_THE_ASSISTANT) as core:
        add_business(core, language="en")
        answer(core, "Vocês têm pão?")
        slack_shows(core, fake_slack)

    assert google.translated == [("Vocês têm pão?", "en"), ("Yes, we do.", "pt")]


def test_customer_who_writes_in_the_business_language_is_left_alone(
    everything: Vendors, tmp_path: Path, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    with translating(everything, tmp_path, FOR_THE_ASSISTANT) as core:
        add_business(core, language="en-US")
        answer(core, "Hello")

        assert fake_twilio.sent() == ["You said: Hello"]
        assert not any("Translation" in shown for shown in slack_shows(core, fake_slack))


def test_failed_translation_of_the_question_leaves_the_original_and_slack_says_so(
    everything: Vendors,
    tmp_path: Path,
    fake_openai: FakeOpenAI,
    fake_twilio: FakeTwilio,
    fake_slack: FakeSlack,
    google: FakeGoogleTranslate,
) -> None:
    google.plan(times=99, response=refusal(403, "Quota exceeded"))
    with translating(everything, tmp_path, FOR_THE_ASSISTANT) as core:
        add_business(core, language="en")

        assert answer(core, "Vocês têm pão?").result is Result.REPLIED

        assert fake_openai.asked[0].text == "Vocês têm pão?"
        assert fake_twilio.sent() == ["You said: Vocês têm pão?"]
        assert slack_shows(core, fake_slack)[0] == "+15552220000 · not translated\nVocês têm pão?"


def test_failed_translation_of_the_answer_sends_the_original(
    everything: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, google: FakeGoogleTranslate
) -> None:
    fake_openai.reply = lambda _: "Yes, we do."
    with translating(everything, tmp_path, FOR_THE_ASSISTANT) as core:
        add_business(core, language="en")
        google.plan(response=None)
        google.plan(times=99, response=refusal(403, "Quota exceeded"))

        assert answer(core, "Vocês têm pão?").result is Result.REPLIED

    assert fake_twilio.sent() == ["Yes, we do."]


def test_only_slack_reads_translations_unless_the_assistant_is_to(
    everything: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    fake_openai.reply = lambda _: "Sim, temos."
    with translating(everything, tmp_path) as core:
        add_business(core, language="en")
        answer(core, "Vocês têm pão?")

        assert fake_openai.asked[0].text == "Vocês têm pão?"
        assert fake_twilio.sent() == ["Sim, temos."]
        first = slack_shows(core, fake_slack)
    assert first[0].endswith("Vocês têm pão?\nTranslation\nDo you have bread?")


def test_reply_of_a_customer_whose_language_is_known_is_translated_for_slack(
    everything: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_slack: FakeSlack
) -> None:
    fake_openai.reply = lambda _: "Sim, temos."
    with translating(everything, tmp_path) as core:
        add_business(core, language="en")
        answer(core, "Vocês têm pão?")

        assert slack_shows(core, fake_slack)[1] == "Assistant\nSim, temos.\nTranslation\nYes, we do."


def test_install_wide_language_counts_where_the_business_has_none(
    everything: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    with translating(everything, tmp_path, {("translate", "target_language"): "en"}) as core:
        add_business(core)
        answer(core, "Vocês têm pão?")

        assert "Do you have bread?" in slack_shows(core, fake_slack)[0]


def test_without_any_language_nothing_is_translated(
    everything: Vendors, tmp_path: Path, google: FakeGoogleTranslate, fake_slack: FakeSlack
) -> None:
    with translating(everything, tmp_path, FOR_THE_ASSISTANT) as core:
        add_business(core)
        answer(core, "Vocês têm pão?")
        slack_shows(core, fake_slack)

    assert google.requests == []


def test_limits_hold_after_translation(
    everything: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, google: FakeGoogleTranslate
) -> None:
    google.dictionary = {**WORDS, ("Yes, we do.", "pt"): "palavra " * 400}
    fake_openai.reply = lambda _: "Yes, we do."
    with translating(everything, tmp_path, FOR_THE_ASSISTANT) as core:
        add_business(core, language="en")
        answer(core, "Vocês têm pão?")

    assert len(fake_twilio.sent()) == 2
    assert all(len(part) <= 1600 for part in fake_twilio.sent())
