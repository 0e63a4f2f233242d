"""The exit codes that are no error's own (core/errors.py has those; docs/errors.md lists them all)."""

from __future__ import annotations

#: A check found problems.
PROBLEMS_FOUND = 8
