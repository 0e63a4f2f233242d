"""What WhatsApp (Twilio) tells of a message after it took it."""

from __future__ import annotations

from dataclasses import dataclass

#: How far a message comes, in Twilio's words. It only ever moves on: what is told late tells nothing new.
PROGRESS = ("accepted", "scheduled", "queued", "sending", "sent", "delivered", "read")
#: It did not reach the customer, which nothing mends; of one that was delivered it is not believed.
FAILED = ("undelivered", "failed")
#: The path of the webhook that is told.
STATUS_PATH = "/whatsapp/status"


def reported_after(status: str) -> tuple[str, ...]:
    """The states after which `status` is news."""
    return PROGRESS[: PROGRESS.index("delivered" if status in FAILED else status)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """One status callback."""

    sid: str
    #: Twilio's word, of PROGRESS or FAILED.
    status: str
    #: Twilio's error code (63016), where it failed.
    code: str | None
    #: Our number, and the customer's.
    sender: str
    recipient: str

    @property
    def has_failed(self) -> bool:
        """Whether the message will not reach the customer any more."""
        return self.status in FAILED
