"""The web application: a WSGI app that `serve` runs in waitress, and that any other WSGI server can host.

A host of its own starts the worker itself, and calls `create_app` with a Core whose schema is up to date.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from flask import Flask, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from chatbotctl.core.log import event
from chatbotctl.core.upkeep.vitals import Vitals
from chatbotctl.core.wiring import Core
from chatbotctl.server import answers, health, serving
from chatbotctl.server.metrics import metrics_bp
from chatbotctl.server.request_reading import MAX_BODY
from chatbotctl.server.whatsapp import whatsapp_bp


def create_app(core: Core, *, allow_unsigned: bool = False) -> Flask:
    """The app for one install.

    Arguments:
        core: stays the caller's to close.
        allow_unsigned: take webhooks for numbers that there is no auth token for. Only for a server that nobody but
            this machine can reach.
    """
    here = serving.Serving(core, allow_unsigned=allow_unsigned)
    app = _app_of(here.vitals)
    serving.attach(app, here)
    app.register_blueprint(whatsapp_bp)
    return app


def create_metrics_app(core: Core, vitals: Vitals) -> Flask:
    """The app for the metrics' own address. `vitals`: of the process."""
    app = _app_of(vitals)
    app.register_blueprint(metrics_bp(core.services.metrics))
    return app


def _app_of(vitals: Vitals) -> Flask:
    """What every app of ours has: the checks of health, limits, and errors in our words."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    # Every method that a path does not take gets the one 405 answer.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    health.attach(app, vitals)
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(Exception, _unforeseen)
    return app


def _refused(error: HTTPException) -> Response:
    """A request that HTTP itself has a status for, in our words."""
    answer = answers.for_request(error.code or 500)
    event("request_refused", level="debug" if answer.status in (404, 405) else "warning", status=answer.status)
    response = Response(answer.text, answer.status, content_type=answers.JSON)
    if isinstance(error, MethodNotAllowed):
        response.allow.update(error.valid_methods or ())
    return response


def _unforeseen(error: Exception) -> Response:
    """A fault of our own. Its words may quote the customer: the log has its type and place, the caller nothing."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else None
    event("request_crashed", level="error", error=type(error).__name__, place=place)
    answer = answers.unforeseen()
    return Response(answer.text, answer.status, content_type=answers.JSON)
