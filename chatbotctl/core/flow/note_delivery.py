"""What became of a message that Twilio took: read by the customer, say, or not delivered at all.

Twilio tells it by status callback, in any order, more than once, and sometimes before our own commit knows the message.
"""

from __future__ import annotations

import time

from chatbotctl.core.flow import mirror_to_slack
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import event, note
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.delivery import DeliveryReport
from chatbotctl.core.storage import events, outbox

#: Seconds that a report waits for the message that it may be of, and between looks. Our commit follows Twilio's answer
#: within milliseconds.
WAIT_SECONDS, LOOK_SECONDS = 2.0, 0.05


def note_delivery(services: Services, business: Business, report: DeliveryReport, *, wait: bool) -> None:
    """Write a status callback down, and have Slack told when the message failed.

    One that is no news changes nothing, and neither does one of a message that nobody here has sent.

    Arguments:
        business: whose number the message was sent from, and whose token the callback was signed with.
        wait: for the message to become known, where one to the same customer is on its way.

    Raises StorageUnavailable.
    """
    end = time.monotonic() + (WAIT_SECONDS if wait else 0.0)
    while not _note(services, business, report):
        with services.database.read() as tx:
            may_come = outbox.is_leaving(tx, business, report)
            is_known = outbox.is_known(tx, business, report.sid)
        if is_known:
            services.metrics.delivery(report.status, "old")
            return
        if not may_come or time.monotonic() >= end:
            services.metrics.delivery(report.status, "unknown")
            return
        time.sleep(LOOK_SECONDS)


def _note(services: Services, business: Business, report: DeliveryReport) -> bool:
    """Whether it was news."""
    with services.database.write() as tx:
        row = outbox.reported(tx, business, report)
        if row is None:
            return False
        detail = {"status": report.status, "code": report.code, "part": row.part}
        events.record(tx, row.conversation_id, "delivery", message_sid=report.sid, turn_id=row.turn_id, detail=detail)
        if report.has_failed:
            mirror_to_slack.owe_undelivered(
                services, tx, business, conversation_id=row.conversation_id, code=report.code, text=row.body
            )
    note(conversation=row.conversation_id)
    services.metrics.delivery(report.status, "new")
    event(
        "message_delivery",
        level="error" if report.has_failed else "info",
        conversation=row.conversation_id,
        status=report.status,
        code=report.code,
    )
    return True
