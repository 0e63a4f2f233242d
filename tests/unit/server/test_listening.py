"""Binding: ports that are free, taken, or nowhere at all."""

from __future__ import annotations

import socket

import pytest

from chatbotctl.core.errors import ConfigurationError, ConflictError
from chatbotctl.server import listening


def test_port_0_finds_a_free_port_for_every_address_of_the_host() -> None:
    sockets = listening.bind("localhost", 0)
    try:
        assert len({one.getsockname()[1] for one in sockets}) == 1
        assert sockets[0].getsockname()[1] > 0
        assert listening.only_loopback(sockets)
    finally:
        listening.close(sockets)


def test_a_port_in_use_is_a_conflict_that_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConflictError) as refused:
            listening.bind("127.0.0.1", port)
    assert refused.value.message == f"Port {port} on 127.0.0.1 is in use."
    assert "--port" in (refused.value.hint or "")


@pytest.mark.parametrize("host", ["203.0.113.5", "x" * 300])
def test_a_host_that_is_not_this_machine_is_a_configuration_error(host: str) -> None:
    with pytest.raises(ConfigurationError):
        listening.bind(host, 0)


def test_all_addresses_are_more_than_loopback() -> None:
    sockets = listening.bind("0.0.0.0", 0)
    try:
        assert not listening.only_loopback(sockets)
    finally:
        listening.close(sockets)
