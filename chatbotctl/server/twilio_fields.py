"""Translate in, part two: Twilio's fields to an InboundMessage. Called once the signature is checked.

New fields appear without notice: all are kept with the message, none is required but From, To and something that was
said. Addresses are never rewritten.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from chatbotctl.core.addresses import PREFIX, readable_address
from chatbotctl.core.errors import UnreadableMessage
from chatbotctl.core.records.message import SIMULATED_PARAMETER, InboundMessage, Media

#: WhatsApp messages carry one attachment, Twilio's other channels up to ten.
MOST_MEDIA = 10
#: Characters of a profile name that are kept; WhatsApp allows 25.
LONGEST_PROFILE_NAME = 200

#: A message without any of these says nothing at all.
_CONTENT = ("Body", "MessageType", "NumMedia", "MediaUrl0", "Latitude", "ButtonText", "ButtonPayload")

#: Twilio's MessageType -> our kind. `text` and types that appear later are judged by what else came.
_TYPES = {
    "image": "image",
    "audio": "audio",
    "voice": "audio",
    "video": "video",
    "document": "document",
    "sticker": "sticker",
    "location": "location",
    "contact": "contact",
    "contacts": "contact",
    "button": "button",
    "interactive": "button",
}
_CONTENT_TYPES = {"image/webp": "sticker", "text/vcard": "contact", "text/x-vcard": "contact"}
_MAIN_TYPES = {"image": "image", "audio": "audio", "video": "video"}


def receiver_of(fields: Mapping[str, str]) -> str:
    """Whom a request says that it is for, to choose the token that it must be signed with; "" when unreadable."""
    return readable_address(fields.get("To", "")) or ""


def message_of(fields: Mapping[str, str]) -> InboundMessage:
    """The message that readable `fields` tell of. Raises UnreadableMessage, naming the field."""
    sender, receiver = _address(fields, "From"), _address(fields, "To")
    if not any(name in fields for name in _CONTENT):
        raise UnreadableMessage("Body is missing.")
    body = fields.get("Body", "")
    if not body.strip():
        # What the customer chose is what the customer says.
        body = fields.get("ButtonText", body)
    media = _media(fields)
    return InboundMessage(
        sid=_sid(fields),
        sender=sender,
        receiver=receiver,
        body=body,
        kind=_kind(fields, media, body),
        profile_name=fields.get("ProfileName", "").strip()[:LONGEST_PROFILE_NAME] or None,
        # Not cut: a part of an identity is somebody else's. What cannot be one stays among the parameters.
        external_user_id=readable_address(fields.get("ExternalUserId", "")),
        media=media,
        parameters=dict(fields),
        # An operator's message, by `simulate --url`: the signature has been checked, and Twilio never sends this.
        simulated=SIMULATED_PARAMETER in fields,
        mirrored=fields.get(SIMULATED_PARAMETER, "slack") == "slack",
    )


def _address(fields: Mapping[str, str], name: str) -> str:
    given = fields.get(name, "")
    if not given:
        raise UnreadableMessage(f"{name} is missing.")
    if given.startswith(f"{PREFIX} "):
        raise UnreadableMessage(f"{name} has a space where a + was meant: a form writes + as %2B.")
    address = readable_address(given)
    if address is None:
        raise UnreadableMessage(f"{name} is not an address.")
    return address


def _sid(fields: Mapping[str, str]) -> str:
    """The message's sid; one of our own for a caller that gives none, whose copies then count as messages."""
    return fields.get("MessageSid") or fields.get("SmsMessageSid") or f"local-{uuid.uuid4().hex}"


def _media(fields: Mapping[str, str]) -> tuple[Media, ...]:
    """The attachments, by the URLs that came; NumMedia may say anything."""
    found = []
    for number in range(MOST_MEDIA):
        url = fields.get(f"MediaUrl{number}")
        if not url:
            break
        found.append(Media(url=url, content_type=fields.get(f"MediaContentType{number}", "")))
    return tuple(found)


def _kind(fields: Mapping[str, str], media: tuple[Media, ...], body: str) -> str:
    named = _TYPES.get(fields.get("MessageType", "").lower())
    if named is not None:
        return named
    if media or fields.get("MediaContentType0"):
        return _kind_of_file(fields.get("MediaContentType0", ""))
    if fields.get("Latitude"):
        return "location"
    if fields.get("ButtonText") or fields.get("ButtonPayload"):
        return "button"
    return "text" if body.strip() else "empty"


def _kind_of_file(content_type: str) -> str:
    plain = content_type.partition(";")[0].strip().lower()
    return _CONTENT_TYPES.get(plain) or _MAIN_TYPES.get(plain.partition("/")[0], "document")
