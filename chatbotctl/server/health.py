"""GET /healthz (this process is up) and GET /readyz (it can do its work), for load balancers and supervisors.

On the webhook's address, and on that of the metrics: there a process without a webhook is asked.
"""

from __future__ import annotations

from typing import cast

from flask import Blueprint, Flask, Response, current_app

from chatbotctl.core.errors import ChatbotError
from chatbotctl.core.upkeep.vitals import Readiness, Vitals
from chatbotctl.server import answers
from chatbotctl.server.answers import Answer

_EXTENSION = "chatbotctl.vitals"

health_bp = Blueprint("health", __name__)


def attach(app: Flask, vitals: Vitals) -> None:
    """Have an app answer for a process."""
    app.extensions[_EXTENSION] = vitals
    app.register_blueprint(health_bp)


def of_app() -> Vitals:
    """The vitals behind the app that handles the present request."""
    return cast("Vitals", current_app.extensions[_EXTENSION])


@health_bp.get("/healthz")
def is_up() -> Response:
    """Answer, whatever else is wrong."""
    return _response(Answer(200, {"status": "ok"}))


@health_bp.get("/readyz")
def is_ready() -> Response:
    """200 when the process can do its work, else 503 with the reason. Without Redis all goes on, slower."""
    vitals = of_app()
    if vitals.draining:
        return _response(Answer(503, {"error": "The server is about to stop.", "code": "draining"}))
    try:
        readiness = vitals.require_ready()
    except ChatbotError as error:
        return _response(answers.for_error(error, status=503))
    return _response(Answer(200, _body(readiness)))


def _body(readiness: Readiness) -> dict[str, object]:
    waiting = readiness.load
    queue = waiting and {
        "due": waiting.due,
        "oldest_seconds": round(waiting.oldest_seconds, 3),
        "dead": waiting.dead,
    }
    return {
        "status": "ready",
        "database": "ok",
        "redis": readiness.redis.value,
        "queue": queue,
        "worker": "running" if readiness.has_worker else "none",
    }


def _response(answer: Answer) -> Response:
    return Response(answer.text, answer.status, content_type=answers.JSON)
