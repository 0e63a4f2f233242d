"""The figures that a process keeps of its work for Prometheus: what there are, and how the path adds to them.

Nothing is kept, and prometheus_client not even loaded, until `keep` is called: by a process that serves `/metrics`.
Everything else calls the verbs of `Metrics`, through Services. docs/monitoring.md lists FIGURES; a test compares them.
A label's values are few: a business's name, a state, a code of ours; never a customer, a message or a vendor's word.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from chatbotctl import __version__
from chatbotctl.core.errors import OutsideError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client.metrics_core import Metric

#: How a call to a vendor ended: it did what it was asked, it did not, or no answer was heard (a timeout, a cut line).
_OUTCOMES = (("ok",), ("failed",), ("unknown",))


@dataclass(frozen=True, eq=False)
class Figure:
    """One thing that is measured."""

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    help: str
    labels: tuple[str, ...] = ()
    #: Label values whose series begin at 0, so that the first one that is counted shows as a change.
    known: tuple[tuple[str, ...], ...] = ()
    #: A histogram's upper bounds in seconds.
    buckets: tuple[float, ...] = ()


#: A gauge's value at this moment, and its labels' values.
Reading = tuple[Figure, tuple[str, ...], float]

MESSAGES = Figure(
    "chatbotctl_messages_total",
    "counter",
    "Customers' messages that came in: stored, duplicate, or the code of the error that one was refused with.",
    ("business", "result"),
)
WEBHOOK_ANSWERS = Figure(
    "chatbotctl_webhook_answers_total",
    "counter",
    "Requests to the webhook, by the HTTP status of the answer.",
    ("status",),
)
TURNS = Figure(
    "chatbotctl_turns_total",
    "counter",
    "Turns that ended: done, withdrawn, or dead with the code of the error.",
    ("business", "state", "code"),
)
ASSISTANT_SECONDS = Figure(
    "chatbotctl_assistant_seconds",
    "histogram",
    "Time that one request for an answer took, by the backend and by how it ended.",
    ("backend", "outcome"),
    # From an answer out of a file to the longest that a turn may wait (openai.turn_deadline_seconds).
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60),
)
SEND_SECONDS = Figure(
    "chatbotctl_send_seconds",
    "histogram",
    "Time that Twilio took for one message, by how that ended.",
    ("outcome",),
    _OUTCOMES,
    # Up to twilio.timeout_seconds.
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
DELIVERIES = Figure(
    "chatbotctl_deliveries_total",
    "counter",
    "What Twilio told of messages after it took them, and whether it was new, old, or of a message not known here.",
    ("status", "result"),
)
RETRIES = Figure(
    "chatbotctl_retries_total",
    "counter",
    "Further attempts: calls to a service made again, and turns put off to be taken up again.",
    ("service",),
    (("assistant",), ("whatsapp",), ("turn",)),
)
CACHE_LOOKUPS = Figure(
    "chatbotctl_cache_lookups_total",
    "counter",
    "Looks into the thread cache; unreachable: Redis gave no answer, or was not asked because it gave none before.",
    ("result",),
    (("hit",), ("miss",), ("unreachable",)),
)
SLACK_POSTS = Figure(
    "chatbotctl_slack_posts_total",
    "counter",
    "Attempts to post to Slack: posted, postponed (to be tried again), or dead.",
    ("outcome",),
    (("posted",), ("postponed",), ("dead",)),
)

IN_FLIGHT = Figure("chatbotctl_turns_in_flight", "gauge", "Turns that run in this process.")
PAUSED = Figure(
    "chatbotctl_worker_paused", "gauge", "1 while this process takes no work because the database does not answer it."
)
DATABASE_UP = Figure("chatbotctl_database_up", "gauge", "1 when the database answered within 2 seconds, else 0.")
QUEUE_DEPTH = Figure("chatbotctl_queue_depth", "gauge", "Conversations that are due and that no worker has.")
QUEUE_OLDEST = Figure(
    "chatbotctl_queue_oldest_seconds", "gauge", "How long the longest due of them has been due; 0 when none is."
)
DEAD_LETTERS = Figure(
    "chatbotctl_dead_letters", "gauge", "Turns and Slack posts given up, which wait for an operator.", ("kind",)
)
SLACK_OWED = Figure("chatbotctl_slack_owed", "gauge", "Posts that Slack is owed.")
SLACK_OLDEST = Figure(
    "chatbotctl_slack_oldest_seconds", "gauge", "How long the oldest of them has been owed; 0 when none is."
)
BUILD = Figure("chatbotctl_build_info", "gauge", "Always 1; the labels say what runs.", ("version", "python"))

FIGURES = (
    MESSAGES,
    WEBHOOK_ANSWERS,
    TURNS,
    ASSISTANT_SECONDS,
    SEND_SECONDS,
    DELIVERIES,
    RETRIES,
    CACHE_LOOKUPS,
    SLACK_POSTS,
    IN_FLIGHT,
    PAUSED,
    DATABASE_UP,
    QUEUE_DEPTH,
    QUEUE_OLDEST,
    DEAD_LETTERS,
    SLACK_OWED,
    SLACK_OLDEST,
    BUILD,
)


class Metrics:
    """One process's figures. Safe to share between threads; its verbs cost next to nothing until `keep` is called."""

    def __init__(self) -> None:
        self._registry: CollectorRegistry | None = None
        self._counters: dict[Figure, Counter] = {}
        self._histograms: dict[Figure, Histogram] = {}

    def keep(self) -> None:
        """Keep figures from now on. In a registry of their own: the library's is one for the whole process."""
        if self._registry is not None:
            return
        from prometheus_client import (
            CollectorRegistry,
            Counter,
            Histogram,
            ProcessCollector,
            disable_created_metrics,
        )

        # When each series began, which no query needs: as many series again.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        for figure in FIGURES:
            if figure.kind == "counter":
                self._counters[figure] = Counter(figure.name, figure.help, figure.labels, registry=registry)
            elif figure.kind == "histogram":
                self._histograms[figure] = Histogram(
                    figure.name, figure.help, figure.labels, registry=registry, buckets=figure.buckets
                )
            for labels in figure.known:
                (self._counters.get(figure) or self._histograms[figure]).labels(*labels)
        self._registry = registry

    def message(self, business: str, result: str) -> None:
        """A message came in.

        Arguments:
            business: its name; "" when none has the number.
            result: stored, duplicate, or the code of the error that the message was refused with.
        """
        self._count(MESSAGES, business, result)

    def webhook_answered(self, status: int) -> None:
        """The webhook answered a request."""
        self._count(WEBHOOK_ANSWERS, str(status))

    def turn_ended(self, business: str, state: str, code: str | None) -> None:
        """A turn ended, with an error's code when it is dead."""
        self._count(TURNS, business, state, code or "")

    def asking(self, backend: str) -> AbstractContextManager[None]:
        """Time the block: one request to an assistant."""
        return self._timed(ASSISTANT_SECONDS, backend) if self._registry else nullcontext()

    def sending(self) -> AbstractContextManager[None]:
        """Time the block: one message on its way to WhatsApp (Twilio)."""
        return self._timed(SEND_SECONDS) if self._registry else nullcontext()

    def delivery(self, status: str, result: Literal["new", "old", "unknown"]) -> None:
        """Twilio told what became of a message."""
        self._count(DELIVERIES, status, result)

    def retried(self, service: Literal["assistant", "whatsapp", "turn"]) -> None:
        """Another attempt is made, or will be."""
        self._count(RETRIES, service)

    def cache_asked(self, result: Literal["hit", "miss", "unreachable"]) -> None:
        """The thread cache was asked for a thread."""
        self._count(CACHE_LOOKUPS, result)

    def slack_post(self, outcome: Literal["posted", "postponed", "dead"]) -> None:
        """A post to Slack was tried."""
        self._count(SLACK_POSTS, outcome)

    def page(self, accept: str, gauges: Iterable[Reading]) -> tuple[bytes, str]:
        """The page that Prometheus reads, and its content type, once `keep` was called.

        Arguments:
            accept: the request's Accept header: Prometheus asks for one of two formats.
            gauges: how everything stands that nothing counts. A figure without a reading is left out.
        """
        from prometheus_client.exposition import choose_encoder

        assert self._registry is not None, "a process that serves the page keeps figures"
        encode, content_type = choose_encoder(accept)
        build = (BUILD, (__version__, platform.python_version()), 1.0)
        page: Any = _Page(self._registry, (*gauges, build))
        return encode(page), content_type

    def _count(self, figure: Figure, *labels: str) -> None:
        if self._registry is not None:
            self._counters[figure].labels(*labels).inc()

    @contextmanager
    def _timed(self, figure: Figure, *labels: str) -> Iterator[None]:
        outcome, started = "failed", perf_counter()
        try:
            yield
            outcome = "ok"
        except OutsideError as error:
            outcome = "unknown" if error.unknown_outcome else "failed"
            raise
        finally:
            self._histograms[figure].labels(*labels, outcome).observe(perf_counter() - started)


class _Page:
    """What is counted and how everything stands, together: the library's encoders ask for nothing but `collect`."""

    def __init__(self, registry: CollectorRegistry, gauges: Iterable[Reading]) -> None:
        self._registry = registry
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """Every figure with its samples."""
        from prometheus_client.metrics_core import GaugeMetricFamily

        yield from self._registry.collect()
        read: dict[Figure, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
        for figure, labels, value in self._gauges:
            read[figure].append((labels, value))
        for figure, values in read.items():
            family = GaugeMetricFamily(figure.name, figure.help, labels=figure.labels)
            for labels, value in values:
                family.add_metric(labels, value)
            yield family
