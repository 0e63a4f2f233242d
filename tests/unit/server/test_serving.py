"""How long a request may wait: as long as there is room for it, and not at all once the server is about to stop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatbotctl.core import config
from chatbotctl.core.wiring import Core
from chatbotctl.server.serving import Serving


@pytest.fixture
def core() -> Iterator[Core]:
    core = Core(config.load(flags={("server", "max_waiting"): 2, ("server", "reply_wait_seconds"): 7}))
    yield core
    core.close()


def test_so_many_may_wait_and_the_next_may_not(core: Core) -> None:
    serving = Serving(core, allow_unsigned=False)
    with serving.patience() as first, serving.patience() as second, serving.patience() as third:
        assert (first, second, third) == (7, 7, 0)
    with serving.patience() as later:
        assert later == 7


def test_a_request_that_fails_gives_its_place_back(core: Core) -> None:
    serving = Serving(core, allow_unsigned=False)
    for _ in range(5):
        with pytest.raises(LookupError), serving.patience():
            raise LookupError
    with serving.patience() as later:
        assert later == 7


def test_nobody_waits_in_a_server_that_is_about_to_stop(core: Core) -> None:
    serving = Serving(core, allow_unsigned=False)
    serving.vitals.draining = True
    with serving.patience() as seconds:
        assert seconds == 0
