"""POST /whatsapp: Twilio's webhook for a customer's message. Translate in, call core, translate out."""

from __future__ import annotations

from typing import Final, Literal

from flask import Blueprint, Response, request

from chatbotctl.core.errors import ChatbotError
from chatbotctl.core.failpoints import reach
from chatbotctl.core.log import about, event
from chatbotctl.core.records.delivery import STATUS_PATH
from chatbotctl.server import answers, serving
from chatbotctl.server.answers import Answer
from chatbotctl.server.request_reading import read_fields
from chatbotctl.server.serving import Serving
from chatbotctl.server.twilio_fields import message_of, receiver_of, report_of, sender_of, signed_sid

whatsapp_bp = Blueprint("whatsapp", __name__)

#: Says to Twilio: taken, and there is nothing to send from here (the reply goes out by the API).
EMPTY_TWIML: Final = '<?xml version="1.0" encoding="UTF-8"?><Response/>'


@whatsapp_bp.post("/whatsapp")
def take_message() -> Response:
    """Take in one message and answer by the table."""
    here = serving.of_app()
    with about(sid=None, business=None, conversation=None):
        answer = _take_in(here)
        _log(answer)
    response = _response(answer, here.core.settings.twilio.answer)
    # waitress closes a response when its bytes are with the operating system.
    response.call_on_close(lambda: reach("acknowledged"))
    return response


def _take_in(here: Serving) -> Answer:
    try:
        received = read_fields(request)
        business = here.core.business_at(receiver_of(received.first))
        signature = here.gate.require(request.environ, received, business)
        fields = received.require_readable()
        message = message_of(fields, sid=signed_sid(received.pairs, signature) if signature else None)
        return answers.for_outcome(here.receive(message, business))
    except ChatbotError as error:
        return answers.for_error(error)


@whatsapp_bp.post(STATUS_PATH)
def take_status() -> Response:
    """Take in what became of a message, and answer by the table."""
    here = serving.of_app()
    with about(sid=None, business=None, conversation=None):
        answer = _note_status(here)
        _log(answer)
    return _response(answer, here.core.settings.twilio.answer)


def _note_status(here: Serving) -> Answer:
    try:
        received = read_fields(request)
        business = here.core.business_at(sender_of(received.first))
        here.gate.require(request.environ, received, business)
        report = report_of(received.require_readable())
        # A business that was removed, or a status that is new at Twilio: nothing that sending it again would mend.
        if report is not None and business is not None:
            here.note_delivery(report, business)
        return answers.SUCCESS
    except ChatbotError as error:
        return answers.for_error(error)


@whatsapp_bp.after_request
def _counted(response: Response) -> Response:
    serving.of_app().core.services.metrics.webhook_answered(response.status_code)
    return response


def _log(answer: Answer) -> None:
    level: Literal["info", "warning", "error"] = "info"
    if answer.status >= 400:
        level = "error" if answer.status >= 500 else "warning"
    event("webhook_answered", level=level, status=answer.status, code=answer.code)


def _response(answer: Answer, style: Literal["json", "twiml"]) -> Response:
    if answer.status == 200 and style == "twiml":
        return Response(EMPTY_TWIML, content_type="text/xml")
    return Response(answer.text, answer.status, content_type=answers.JSON)
