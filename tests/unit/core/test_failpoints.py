"""Fail points go off for tests alone, at the visit that was named, and a misspelt one is no silent success."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from chatbotctl.core.failpoints import FailPointReached, armed, reach


def visiting(*names: str, **environ: str) -> int:
    """The exit status of a process with this environment that comes to these points."""
    code = f"from chatbotctl.core.failpoints import reach\nfor name in {names!r}: reach(name)"
    return subprocess.run([sys.executable, "-c", code], env=os.environ | environ, capture_output=True).returncode


def test_process_dies_at_its_fail_point() -> None:
    died = visiting("stored", "asked", CHATBOTCTL_TESTING="1", CHATBOTCTL_FAILPOINT="asked:kill")
    assert died == -9


def test_without_the_testing_switch_an_operators_environment_sets_nothing_off() -> None:
    assert visiting("asked", CHATBOTCTL_TESTING="", CHATBOTCTL_FAILPOINT="asked:kill") == 0


def test_misspelt_fail_point_is_an_error() -> None:
    assert visiting("asked", CHATBOTCTL_TESTING="1", CHATBOTCTL_FAILPOINT="askd:kill") == 1


@pytest.mark.parametrize("spec", ["", "asked", "asked:explode", "nowhere:kill", "asked@x:kill", "asked@0:kill"])
def test_what_is_no_fail_point_arms_nothing(spec: str) -> None:
    with pytest.raises(ValueError, match=r"CHATBOTCTL_FAILPOINT|invalid literal"), armed(spec):
        pass


def test_it_goes_off_at_the_visit_that_was_named_and_at_no_other() -> None:
    with armed("sending@2:raise"):
        reach("sending")
        reach("asked")
        with pytest.raises(FailPointReached):
            reach("sending")
        reach("sending")
    reach("sending")


def test_nothing_that_handles_faults_outlives_it() -> None:
    assert not issubclass(FailPointReached, Exception)


def test_path_can_be_made_to_dawdle() -> None:
    with armed("stored:sleep=0.05"):
        began = time.monotonic()
        reach("stored")
        assert time.monotonic() - began >= 0.05
