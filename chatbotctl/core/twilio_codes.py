"""What Twilio's error codes say of a message, in words for an operator: when it is refused, and when it fails later."""

from __future__ import annotations

from collections.abc import Mapping

#: Twilio's error code -> what happened, in words for an operator. https://www.twilio.com/docs/api/errors
SENTENCES: Mapping[str, str] = {
    "20003": "Twilio refused the credentials: the account SID or the auth token is wrong.",
    "20404": "Twilio knows no such account.",
    "20429": "Twilio takes no more requests at the moment.",
    "21211": "The recipient's address is not valid for WhatsApp.",
    "21604": "The recipient's address is missing.",
    "21608": "A Twilio trial account sends only to numbers that were verified in its console.",
    "21610": "The customer opted out of messages.",
    "21617": "The message is longer than the 1,600 characters that Twilio takes.",
    "21619": "The message has no text.",
    "21910": "The sender and the recipient are not on the same channel: both need `whatsapp:` in front.",
    "63003": "WhatsApp does not know the recipient.",
    "63007": "The business's number is not a WhatsApp sender of this Twilio account.",
    "63014": "The customer blocked this business.",
    "63015": "Twilio's sandbox sends only to numbers that have joined it.",
    "63016": "The customer last wrote more than 24 hours ago, and WhatsApp takes only templates outside that window.",
    "63018": "WhatsApp takes no more messages from this sender at the moment.",
    "63024": "The recipient cannot be reached on WhatsApp.",
}


def sentence_of(code: str | None) -> str:
    """What happened to a message that did not reach its customer. `code`: Twilio's, None when it told none."""
    if code is None:
        return "WhatsApp (Twilio) did not say why."
    return SENTENCES.get(code, f"WhatsApp (Twilio) gave the code {code}.")
