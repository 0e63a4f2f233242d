"""From Twilio's fields to a message."""

from __future__ import annotations

import pytest

from chatbotctl.core.errors import UnreadableMessage
from chatbotctl.core.records.message import NO_TEXT_KINDS, InboundMessage, Media
from chatbotctl.server.twilio_fields import MOST_MEDIA, message_of, receiver_of, signed_sid

BASE = {"From": "whatsapp:+15552223333", "To": "whatsapp:+15550001111", "MessageSid": "SM1"}


def message(**fields: str) -> InboundMessage:
    return message_of({**BASE, **fields})


def test_a_text_message_as_twilio_sends_it() -> None:
    fields = {
        "SmsMessageSid": "SM9",
        "NumMedia": "0",
        "ProfileName": "Zoë",
        "MessageType": "text",
        "WaId": "15552223333",
        "Body": "Hello",
        "ExternalUserId": "US.134912",
        "ChannelMetadata": '{"type": "whatsapp"}',
        "AFieldOfTomorrow": "kept",
    }
    assert message(**fields) == InboundMessage(
        sid="SM1",
        sender="whatsapp:+15552223333",
        receiver="whatsapp:+15550001111",
        body="Hello",
        kind="text",
        profile_name="Zoë",
        external_user_id="US.134912",
        parameters={**BASE, **fields},
        simulated=False,
        mirrored=True,
    )


def test_a_customer_who_hides_the_number_keeps_the_address_as_it_came() -> None:
    assert message_of({**BASE, "From": "whatsapp:US.ENT.a1b2", "Body": "x"}).sender == "whatsapp:US.ENT.a1b2"


IMAGE = {"NumMedia": "1", "MediaUrl0": "https://api.twilio.com/m/1", "MediaContentType0": "image/jpeg"}


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"Body": "Hello"}, "text"),
        ({"Body": ""}, "empty"),
        ({"Body": " \n\t"}, "empty"),
        ({"Body": "", "NumMedia": "0"}, "empty"),
        ({"Body": "", **IMAGE}, "image"),
        ({"Body": "look", **IMAGE}, "image"),
        ({**IMAGE, "MediaContentType0": "image/webp"}, "sticker"),
        ({**IMAGE, "MediaContentType0": "audio/ogg; codecs=opus"}, "audio"),
        ({**IMAGE, "MediaContentType0": "video/mp4"}, "video"),
        ({**IMAGE, "MediaContentType0": "application/pdf"}, "document"),
        ({**IMAGE, "MediaContentType0": "text/vcard"}, "contact"),
        ({**IMAGE, "MediaContentType0": ""}, "document"),
        ({"Body": "", "Latitude": "48.1", "Longitude": "11.5"}, "location"),
        ({"Body": "Yes", "ButtonText": "Yes", "ButtonPayload": "yes"}, "button"),
        ({"Body": "", "ButtonPayload": "yes"}, "button"),
        ({"Body": "", "MessageType": "sticker"}, "sticker"),
        ({"Body": "", "MessageType": "contacts"}, "contact"),
        ({"Body": "", "MessageType": "Location"}, "location"),
        ({"Body": "Yes", "MessageType": "interactive"}, "button"),
        ({"Body": "", "MessageType": "order"}, "empty"),
        ({"Body": "x", "MessageType": "a type of tomorrow"}, "text"),
        ({"MessageType": "image", **IMAGE}, "image"),
    ],
)
def test_what_a_message_holds_is_named(fields: dict[str, str], kind: str) -> None:
    found = message(**fields)
    assert found.kind == kind
    assert found.kind == "text" or found.kind in NO_TEXT_KINDS


def test_a_pressed_button_says_what_is_written_on_it() -> None:
    assert message(Body="", ButtonText="Yes, please").body == "Yes, please"
    assert message(Body="No", ButtonText="Yes").body == "No"


def test_attachments_are_kept_in_order() -> None:
    found = message(Body="", NumMedia="2", MediaUrl0="u0", MediaContentType0="image/png", MediaUrl1="u1")
    assert found.media == (Media(url="u0", content_type="image/png"), Media(url="u1", content_type=""))


@pytest.mark.parametrize("number", ["many", "-1", "", "9" * 5000, "1e3", "٣", "2"])
def test_a_wrong_number_of_attachments_changes_nothing(number: str) -> None:
    assert len(message(Body="", NumMedia=number, MediaUrl0="u0").media) == 1
    assert message(Body="hi", NumMedia=number).media == ()


def test_only_so_many_attachments_are_taken() -> None:
    fields = {f"MediaUrl{number}": "u" for number in range(1000)}
    assert len(message(Body="", NumMedia="1000", **fields).media) == MOST_MEDIA


@pytest.mark.parametrize("name", ["From", "To"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "is missing"),
        ("   ", "is not an address"),
        ("a\nb", "is not an address"),
        ("whatsapp:\u202e1", "is not an address"),
        ("x" * 161, "is not an address"),
    ],
)
def test_a_message_needs_readable_addresses(name: str, value: str, words: str) -> None:
    with pytest.raises(UnreadableMessage) as refused:
        message_of({**BASE, "Body": "x", name: value})
    assert refused.value.message == f"{name} {words}."


@pytest.mark.parametrize("name", ["From", "To"])
def test_a_missing_address_is_named(name: str) -> None:
    fields = {key: value for key, value in BASE.items() if key != name}
    with pytest.raises(UnreadableMessage, match=f"{name} is missing"):
        message_of({**fields, "Body": "x"})


def test_a_request_that_says_nothing_at_all_lacks_its_body() -> None:
    with pytest.raises(UnreadableMessage, match="Body is missing"):
        message_of(BASE)


def test_a_message_that_is_no_text_needs_no_body() -> None:
    assert message(Latitude="1").body == ""
    assert message(NumMedia="0").kind == "empty"


def test_without_a_sid_each_message_gets_one_of_its_own() -> None:
    fields = {"From": "a", "To": "b", "Body": "x"}
    first, second = message_of(fields), message_of({**fields, "MessageSid": ""})
    assert first.sid.startswith("local-")
    assert first.sid != second.sid
    assert len(first.sid) <= 64


TWILIO_SID = "SM" + "f0" * 16


@pytest.mark.parametrize(
    "changed",
    [
        {"MessageSid": TWILIO_SID, "NumMedia": "0"},
        {"MessageSidS": TWILIO_SID[1:], "NumMedia": "0"},
        {"MessageSid": "S", TWILIO_SID[1:]: "", "NumMedia": "0"},
        {"MessageSid": f"{TWILIO_SID}NumMedia0"},
        {"FromwMessageSid": f"{TWILIO_SID}NumMedia0"},
    ],
)
def test_what_is_signed_keeps_its_sid_wherever_its_names_end(changed: dict[str, str]) -> None:
    assert signed_sid([("To", "b"), *changed.items(), ("From", "a")], "signature") == TWILIO_SID


def test_the_first_of_two_sids_counts() -> None:
    assert signed_sid([("MessageSid", "SM2"), ("MessageSid", "SM1")], "signature") == "SM2"


def test_signed_without_a_sid_the_signature_makes_one() -> None:
    fields = [("From", "a"), ("Body", "x")]
    sid = signed_sid(fields, "one signature")
    assert sid.startswith("local-")
    assert len(sid) <= 64
    assert sid == signed_sid([("Fro", "ma"), ("Body", "x")], "one signature")
    assert sid != signed_sid(fields, "another")


def test_the_older_name_of_the_sid_is_known() -> None:
    assert message_of({"From": "a", "To": "b", "Body": "x", "SmsMessageSid": "SM2"}).sid == "SM2"


def test_names_and_ids_that_are_too_long_do_no_harm() -> None:
    found = message(Body="x", ProfileName="n" * 5000, ExternalUserId="i" * 161)
    assert found.profile_name == "n" * 200
    assert found.external_user_id is None, "half of an id is somebody else's"
    assert found.parameters["ExternalUserId"] == "i" * 161


@pytest.mark.parametrize("blank", ["", "  "])
def test_blank_names_and_ids_are_none(blank: str) -> None:
    found = message(Body="x", ProfileName=blank, ExternalUserId=blank)
    assert (found.profile_name, found.external_user_id) == (None, None)


def test_an_operators_simulation_says_so_and_whether_slack_sees_it() -> None:
    quiet, shown = message(Body="x", ChatbotctlSimulated="quiet"), message(Body="x", ChatbotctlSimulated="slack")
    assert (quiet.simulated, quiet.mirrored) == (True, False)
    assert (shown.simulated, shown.mirrored) == (True, True)


def test_a_customers_message_is_real_and_mirrored_whatever_else_it_says() -> None:
    found = message(Body="x", simulated="true", Simulated="1", mirrored="false")
    assert (found.simulated, found.mirrored) == (False, True)


@pytest.mark.parametrize("to", [None, "", "\0", "\ud800", "x" * 200])
def test_an_unreadable_receiver_is_nobody(to: str | None) -> None:
    assert receiver_of({} if to is None else {"To": to}) == ""
