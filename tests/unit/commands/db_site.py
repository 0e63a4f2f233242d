"""What the tests of `db check|repair|backup|restore` share: an install with two threads, and a hand in its database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatbotctl.core.upkeep import check_database
from tests import installs
from tests.unit.commands import business_site as site

CUSTOMER = "whatsapp:+15557654321"
#: What no screen may show.
SECRET_TEXT = "My PIN is 1234"


def set_up(monkeypatch: pytest.MonkeyPatch, folder: Path, *, database_url: str | None = None) -> None:
    """One thread that is answered, one with something pending; suspicions are looked at twice without a pause."""
    monkeypatch.setattr(check_database, "MOMENT", 0.0)
    site.set_up(monkeypatch, folder)
    monkeypatch.setenv("DATABASE_URL", database_url or f"sqlite:///{folder / 'bot.db'}")
    with site.core() as core:
        installs.add_business(core, "luna", backend="knowledge")
        installs.answer(core, SECRET_TEXT, sender="whatsapp:+15550000001", simulated=True)
        installs.take_in(core, SECRET_TEXT, sender=CUSTOMER)


def run_sql(statement: str) -> None:
    """Somebody changes the database by hand."""
    with site.core() as core, core.database.write() as tx:
        tx.exec_driver_sql(statement)


def value(query: str) -> Any:
    """What one SELECT says."""
    with site.core() as core, core.database.read() as tx:
        return tx.exec_driver_sql(query).scalar()
