"""Errors by their code: what was stored, or came over the wire, gets its class back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatbotctl.core import errors
from chatbotctl.core.errors import ChatbotError, by_code


def all_kinds(kind: type[ChatbotError] = ChatbotError) -> Iterator[type[ChatbotError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from all_kinds(below)


@pytest.mark.parametrize("kind", [kind for kind in all_kinds() if kind.__module__ == errors.__name__])
def test_every_code_leads_back_to_its_class(kind: type[ChatbotError]) -> None:
    assert by_code(kind.code) is kind


@pytest.mark.parametrize("code", [None, "", "63016", "Error"])
def test_a_code_that_nobody_knows_is_just_an_error(code: str | None) -> None:
    assert by_code(code) is ChatbotError


@pytest.mark.parametrize("kind", list(all_kinds()))
def test_an_error_without_a_message_says_one_sentence(kind: type[ChatbotError]) -> None:
    message = kind().message
    assert message.endswith(".")
    assert "\n" not in message
