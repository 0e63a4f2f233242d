"""GET /metrics: what Prometheus reads."""

from __future__ import annotations

from flask import Blueprint, Response, request

from chatbotctl.core.metrics import Metrics
from chatbotctl.server import health


def metrics_bp(metrics: Metrics) -> Blueprint:
    """The blueprint for a process that keeps `metrics`; the app has its vitals attached."""
    blueprint = Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    def show() -> Response:
        """Every figure, in the format that is asked for."""
        page, content_type = metrics.page(request.headers.get("Accept", ""), health.of_app().readings())
        return Response(page, content_type=content_type)

    return blueprint
