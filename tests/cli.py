"""Runs the command line inside the test's process, as `chatbotctl ARGS` would."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest import mock

from chatbotctl.commands import app


@dataclass(frozen=True)
class Run:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


def chatbotctl(*args: str, stdin: str = "") -> Run:
    """Run one command, on no terminal; `stdin` is what it can read."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), mock.patch("sys.stdin", io.StringIO(stdin)):
        code = app.main(list(args))
    return Run(code, out.getvalue(), err.getvalue())
