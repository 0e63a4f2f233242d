"""GET /healthz (this process is up) and GET /readyz (it can take messages in), for load balancers and supervisors."""

from __future__ import annotations

from flask import Blueprint, Response

from chatbotctl.core.errors import ChatbotError
from chatbotctl.core.upkeep.readiness import require_ready
from chatbotctl.server import answers, serving
from chatbotctl.server.answers import Answer

health_bp = Blueprint("health", __name__)


@health_bp.get("/healthz")
def is_up() -> Response:
    """Answer, whatever else is wrong."""
    return _response(Answer(200, {"status": "ok"}))


@health_bp.get("/readyz")
def is_ready() -> Response:
    """200 when messages can be stored, else 503 with the reason. Redis is reported; without it all goes on, slower."""
    here = serving.of_app()
    if here.draining:
        return _response(Answer(503, {"error": "The server is about to stop.", "code": "draining"}))
    core = here.core
    ask_redis = core.cache_latency if core.settings.redis.url is not None else None
    try:
        readiness = require_ready(core.database, ask_redis=ask_redis)
    except ChatbotError as error:
        return _response(answers.for_error(error, status=503))
    return _response(Answer(200, {"status": "ready", "database": "ok", "redis": readiness.redis.value}))


def _response(answer: Answer) -> Response:
    return Response(answer.text, answer.status, content_type=answers.JSON)
