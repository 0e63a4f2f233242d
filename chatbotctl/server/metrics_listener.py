"""The address of the metrics: `/metrics`, `/healthz` and `/readyz`, apart from the webhook's, which the world reaches.

Started and closed by the process that works: `serve`, and whatever runs turns without a webhook.
"""

from __future__ import annotations

import threading

from chatbotctl.core.log import event
from chatbotctl.core.upkeep.vitals import Vitals
from chatbotctl.core.wiring import Core
from chatbotctl.server import listening
from chatbotctl.server.listening import Listener

#: Requests that are answered at once: Prometheus's, a supervisor's, and a person's.
THREADS = 4


class MetricsListener:
    """Bound from the start, and answering on threads of its own between `start` and `close`; nothing without a port.

    From its making on the process keeps figures.

    Arguments:
        core: stays the caller's to close.
        vitals: of the process, whose worker and end they are to know.

    Raises ConflictError (`metrics.port` is in use) or ConfigurationError.
    """

    def __init__(self, core: Core, vitals: Vitals) -> None:
        #: Where it answers; None: nowhere.
        self.url: str | None = None
        self._listener: Listener | None = None
        self._thread = threading.Thread(target=self._answer, name="metrics", daemon=True)
        self._closing = False
        host, port = core.settings.metrics.host, core.settings.metrics.port
        if port is None:
            return
        from chatbotctl.server.app import create_metrics_app

        sockets = listening.bind(host, port, section="metrics")
        if not listening.only_loopback(sockets):
            event("metrics_not_on_loopback", level="warning", host=host)
        core.services.metrics.keep()
        self._listener = Listener(create_metrics_app(core, vitals), sockets, threads=THREADS)
        self.url = listening.url_of(host, self._listener.port)

    def start(self) -> None:
        """Begin to answer; returns at once."""
        if self._listener is not None:
            self._thread.start()
            event("serving_metrics", url=f"{self.url}/metrics")

    def close(self) -> None:
        """Answer nothing more."""
        if self._listener is None:
            return
        self._closing = True
        self._listener.wake()
        if self._thread.is_alive():
            self._thread.join()
        self._listener.close()

    def _answer(self) -> None:
        assert self._listener is not None, "only one with a listener is started"
        while not self._closing:
            self._listener.step(1.0)
