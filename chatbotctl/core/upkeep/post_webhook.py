"""Posts a simulated message to a running server as Twilio would: the same form, the same signature.

Used by `simulate --url`. The form says that the message is simulated, and the signature covers that, so the server
answers it through the whole path and sends nothing to a customer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from chatbotctl.core.errors import ConfigurationError, OutsideError
from chatbotctl.core.ports import SignatureCheck
from chatbotctl.core.records.message import SIMULATED_PARAMETER, InboundMessage

#: Seconds that Twilio gives a webhook in all.
TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True)
class WebhookAnswer:
    """What the server answered."""

    status: int
    queued: bool = False
    error: str | None = None
    code: str | None = None


def post_webhook(
    message: InboundMessage, *, server_url: str, public_url: str | None, signature: SignatureCheck | None
) -> WebhookAnswer:
    """Post `message` to `server_url`/whatsapp.

    Arguments:
        server_url: where the server is reached from here, with or without /whatsapp.
        public_url: the URL that the server believes to be called by (`server.public_url`), which is what is signed.
        signature: what signs; None: not signed, which a server without an auth token takes on a loopback address.

    Raises OutsideError when no server answers there, ConfigurationError when it is no URL.
    """
    import requests

    url = server_url.rstrip("/").removesuffix("/whatsapp") + "/whatsapp"
    fields = {
        "MessageSid": message.sid,
        "From": message.sender,
        "To": message.receiver,
        "Body": message.body,
        "NumMedia": "0",
        SIMULATED_PARAMETER: "slack" if message.mirrored else "quiet",
    }
    if message.profile_name is not None:
        fields["ProfileName"] = message.profile_name
    headers = {}
    if signature is not None:
        signed_url = f"{public_url}/whatsapp" if public_url else url
        headers["X-Twilio-Signature"] = signature.sign(url=signed_url, fields=list(fields.items()))
    try:
        response = requests.post(url, data=fields, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    except (
        requests.exceptions.InvalidURL,
        requests.exceptions.MissingSchema,
        requests.exceptions.InvalidSchema,
    ) as exc:
        raise ConfigurationError(f"{server_url} is not a URL.", hint="Write it like http://127.0.0.1:8080.") from exc
    except requests.RequestException as exc:
        raise OutsideError(
            f"No server answers at {url}.", reason="unreachable", hint="Start one with `chatbotctl serve`."
        ) from exc
    return _read(response.status_code, response.content)


def _read(status: int, content: bytes) -> WebhookAnswer:
    try:
        answer = json.loads(content)
    except ValueError:
        # twilio.answer = "twiml": an empty document that says no more than the status.
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    return WebhookAnswer(status, bool(answer.get("queued")), answer.get("error"), answer.get("code"))
