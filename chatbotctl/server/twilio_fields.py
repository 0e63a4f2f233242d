"""Translate in, part two: Twilio's fields to an InboundMessage. Called once the signature is checked.

New fields appear without notice: all are kept with the message, none is required but From, To and something that was
said. Addresses are never rewritten.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence

from chatbotctl.core.addresses import PREFIX, readable_address
from chatbotctl.core.errors import UnreadableMessage
from chatbotctl.core.records.delivery import FAILED, PROGRESS, DeliveryReport
from chatbotctl.core.records.message import SIMULATED_PARAMETER, InboundMessage, Media

#: WhatsApp messages carry one attachment, Twilio's other channels up to ten.
MOST_MEDIA = 10
#: Characters of a profile name that are kept; WhatsApp allows 25.
LONGEST_PROFILE_NAME = 200

#: A message's sid as Twilio makes them.
_TWILIO_SID = re.compile(r"[A-Z]{2}[0-9a-f]{32}")
#: Twilio's error codes are numbers; "0" and nothing at all say that there is no error.
_CODE = re.compile(r"[1-9]\d{1,9}")
_SIGNED_SID = re.compile(rf"MessageSid({_TWILIO_SID.pattern})")

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


def signed_sid(pairs: Sequence[tuple[str, str]], signature: str) -> str:
    """The sid of a request whose `signature` was checked, the same for everything that this signature fits.

    Twilio signs a form's names and values joined, without anything between them, so a captured request can be sent
    again with other borders (`MessageSidS=Maa...`) and still be signed. What no border changes is the joined text: a
    sid of Twilio's is found in it wherever the borders are. A caller with neither gets one made of the signature.
    """
    fields: dict[str, str] = {}
    for name, value in pairs:
        fields.setdefault(name, value)
    given = _given_sid(fields)
    if _TWILIO_SID.fullmatch(given):
        return given
    found = _SIGNED_SID.search("".join(name + value for name, value in sorted(set(pairs))))
    if found:
        return found[1]
    return given or f"local-{hashlib.sha256(signature.encode()).hexdigest()[:40]}"


def message_of(fields: Mapping[str, str], *, sid: str | None = None) -> InboundMessage:
    """The message that readable `fields` tell of.

    Arguments:
        sid: from `signed_sid` when the request's signature was checked. Without it the fields' own counts, or a new
            one: copies without a sid then count as messages.

    Raises UnreadableMessage, naming the field.
    """
    sender, receiver = _address(fields, "From"), _address(fields, "To")
    if not any(name in fields for name in _CONTENT):
        raise UnreadableMessage("Body is missing.")
    body = fields.get("Body", "")
    if not body.strip():
        # What the customer chose is what the customer says.
        body = fields.get("ButtonText", body)
    media = _media(fields)
    return InboundMessage(
        sid=sid or _given_sid(fields) or f"local-{uuid.uuid4().hex}",
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


def report_of(fields: Mapping[str, str]) -> DeliveryReport | None:
    """What readable `fields` of a status callback tell; None for a status that Twilio has added since.

    Raises UnreadableMessage, naming the field.
    """
    sid, status = _given_sid(fields), fields.get("MessageStatus") or fields.get("SmsStatus") or ""
    if not sid or not status:
        raise UnreadableMessage(f"{'MessageStatus' if sid else 'MessageSid'} is missing.")
    sender, recipient = _address(fields, "From"), _address(fields, "To")
    if status not in (*PROGRESS, *FAILED):
        return None
    code = fields.get("ErrorCode", "")
    return DeliveryReport(
        sid=sid, status=status, code=code if _CODE.fullmatch(code) else None, sender=sender, recipient=recipient
    )


def sender_of(fields: Mapping[str, str]) -> str:
    """Whose message a status callback says that it tells of; "" when unreadable."""
    return readable_address(fields.get("From", "")) or ""


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


def _given_sid(fields: Mapping[str, str]) -> str:
    return fields.get("MessageSid") or fields.get("SmsMessageSid") or ""


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
