"""The messenger that prints instead of sending."""

from __future__ import annotations

from chatbotctl.core.adapters.console import ConsoleMessenger


def test_message_is_printed_as_it_is_and_counts_as_sent() -> None:
    printed: list[str] = []
    console = ConsoleMessenger(printed.append)

    sent = [console.send(sender="whatsapp:+1", recipient="whatsapp:+2", body=body) for body in ("Yes.", "a\nb [/x]")]

    assert printed == ["-> whatsapp:+2: Yes.", "-> whatsapp:+2: a\nb [/x]"]
    assert {message.status for message in sent} == {"printed"}
    assert len({message.sid for message in sent}) == 2
    assert all(message.sid.startswith("console-") and len(message.sid) <= 64 for message in sent)
