"""What the handlers of one app share: core, the signature gate, vitals, and how many requests may wait at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from flask import Flask, current_app

from chatbotctl.core.flow import pipeline
from chatbotctl.core.flow.note_delivery import note_delivery
from chatbotctl.core.log import note
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.delivery import DeliveryReport
from chatbotctl.core.records.message import InboundMessage, Outcome
from chatbotctl.core.wiring import Core
from chatbotctl.server.signature import SignatureGate, TrustedProxies

_EXTENSION = "chatbotctl"


class Serving:
    """One app's share of core.

    Arguments:
        allow_unsigned: as SignatureGate takes it.
    """

    def __init__(self, core: Core, *, allow_unsigned: bool) -> None:
        server = core.settings.server
        self.core = core
        self.gate = SignatureGate(
            core=core, proxies=TrustedProxies(server.trusted_proxies), allow_unsigned=allow_unsigned
        )
        self.vitals = core.make_vitals()
        self._wait_seconds = server.reply_wait_seconds
        self._waiting = threading.Semaphore(server.waiting_requests)

    def receive(self, message: InboundMessage, business: Business | None) -> Outcome:
        """Have a message for `business` stored, and wait for its outcome for as long as there is room to wait.

        Raises what pipeline.receive raises.
        """
        with self.patience() as seconds:
            return pipeline.receive(self.core.services, message, business, wait_seconds=seconds)

    def note_delivery(self, report: DeliveryReport, business: Business) -> None:
        """Have what became of a message written down; waits for the message to be known where there is room to wait.

        Raises StorageUnavailable.
        """
        note(sid=report.sid, business=business.name)
        with self.patience() as seconds:
            note_delivery(self.core.services, business, report, wait=seconds > 0)

    @contextmanager
    def patience(self) -> Iterator[float]:
        """Seconds that this request may wait: none once enough others do, so a slow AI never takes every thread.

        And none in a process that is about to end.
        """
        if self.vitals.draining or not self._waiting.acquire(blocking=False):
            yield 0.0
            return
        try:
            yield self._wait_seconds
        finally:
            self._waiting.release()


def attach(app: Flask, serving: Serving) -> None:
    """Give an app its Serving."""
    app.extensions[_EXTENSION] = serving


def of_app(app: Flask | None = None) -> Serving:
    """The Serving of `app`, or of the app that handles the present request."""
    return cast("Serving", (app or current_app).extensions[_EXTENSION])
