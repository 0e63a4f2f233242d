"""The figures that a process keeps, as Prometheus reads them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chatbotctl.core import metrics
from chatbotctl.core.errors import MessengerError
from chatbotctl.core.metrics import FIGURES, Metrics, Reading


@pytest.fixture
def kept() -> Metrics:
    made = Metrics()
    made.keep()
    return made


def page(kept: Metrics, *gauges: Reading) -> str:
    return kept.page("", gauges)[0].decode()


def samples(kept: Metrics, *gauges: Reading) -> dict[str, float]:
    """Each sample of a page, by its name and labels as they stand there."""
    found = {}
    for line in page(kept, *gauges).splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def test_what_happens_is_counted(kept: Metrics) -> None:
    kept.message("bakery", "stored")
    kept.message("bakery", "stored")
    kept.message("", "business_not_found")
    kept.webhook_answered(200)
    kept.turn_ended("bakery", "done", None)
    kept.turn_ended("bakery", "dead", "assistant_failed")
    kept.retried("assistant")
    kept.cache_asked("hit")
    kept.slack_post("dead")

    found = samples(kept)
    assert found['chatbotctl_messages_total{business="bakery",result="stored"}'] == 2
    assert found['chatbotctl_messages_total{business="",result="business_not_found"}'] == 1
    assert found['chatbotctl_webhook_answers_total{status="200"}'] == 1
    assert found['chatbotctl_turns_total{business="bakery",code="",state="done"}'] == 1
    assert found['chatbotctl_turns_total{business="bakery",code="assistant_failed",state="dead"}'] == 1
    assert found['chatbotctl_retries_total{service="assistant"}'] == 1
    assert found['chatbotctl_cache_lookups_total{result="hit"}'] == 1
    assert found['chatbotctl_slack_posts_total{outcome="dead"}'] == 1


def test_a_call_is_timed_and_its_end_told(kept: Metrics) -> None:
    with kept.asking("openai"):
        pass
    for error in (MessengerError(unknown_outcome=True), MessengerError(reason="63016"), RuntimeError()):
        with pytest.raises(type(error)), kept.sending():
            raise error

    found = samples(kept)
    assert found['chatbotctl_assistant_seconds_count{backend="openai",outcome="ok"}'] == 1
    assert found['chatbotctl_assistant_seconds_bucket{backend="openai",le="60.0",outcome="ok"}'] == 1
    ends = {
        outcome: found[f'chatbotctl_send_seconds_count{{outcome="{outcome}"}}']
        for outcome in ("ok", "failed", "unknown")
    }
    assert ends == {"ok": 0, "failed": 2, "unknown": 1}


def test_series_that_are_known_begin_at_0(kept: Metrics) -> None:
    """Prometheus sees no increase in a series that begins with 1."""
    found = samples(kept)
    for figure in FIGURES:
        suffix = "_count" if figure.kind == "histogram" else ""
        for values in figure.known:
            labels = ",".join(f'{name}="{value}"' for name, value in zip(figure.labels, values, strict=True))
            assert found[f"{figure.name}{suffix}{{{labels}}}"] == 0


def test_the_process_and_the_build_are_told(kept: Metrics) -> None:
    found = samples(kept)
    assert found["process_resident_memory_bytes"] > 1e6
    assert [value for name, value in found.items() if name.startswith("chatbotctl_build_info{")] == [1]


def test_a_gauge_without_a_reading_is_left_out(kept: Metrics) -> None:
    assert "chatbotctl_queue_depth" not in page(kept)
    found = samples(kept, (metrics.DEAD_LETTERS, ("turn",), 3), (metrics.DEAD_LETTERS, ("slack",), 0))
    assert found['chatbotctl_dead_letters{kind="turn"}'] == 3
    assert found['chatbotctl_dead_letters{kind="slack"}'] == 0


def test_a_business_may_have_any_name(kept: Metrics) -> None:
    name = 'a"b\\c\nd{e="f"} ü'
    kept.message(name, "stored")
    families = {family.name: family for family in text_string_to_metric_families(page(kept))}
    assert [sample.labels["business"] for sample in families["chatbotctl_messages"].samples if sample.value == 1] == [
        name
    ]


def test_either_format_is_had_by_asking_for_it(kept: Metrics) -> None:
    assert kept.page("", ())[1].startswith("text/plain")
    text, content_type = kept.page("application/openmetrics-text; version=1.0.0", ())
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_two_installs_in_one_process_count_apart(kept: Metrics) -> None:
    other = Metrics()
    other.keep()
    other.keep()
    other.message("bakery", "stored")
    assert "bakery" in page(other)
    assert "bakery" not in page(kept)


def test_a_process_that_keeps_none_does_not_even_load_what_would() -> None:
    program = """
import sys
from chatbotctl.core.metrics import Metrics
nobody = Metrics()
nobody.message("bakery", "stored")
nobody.turn_ended("bakery", "done", None)
with nobody.asking("openai"), nobody.sending():
    pass
print("prometheus_client" in sys.modules)
nobody.keep()
print("prometheus_client" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "True"]


def test_names_are_as_prometheus_has_them() -> None:
    for figure in FIGURES:
        assert figure.name.startswith("chatbotctl_")
        assert figure.name.endswith("_total") == (figure.kind == "counter"), figure.name
        if figure.kind == "histogram":
            assert figure.name.endswith("_seconds")
        assert not {"sid", "conversation", "customer", "client", "number"} & set(figure.labels)
