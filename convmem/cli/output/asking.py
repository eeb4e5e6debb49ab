"""Asking a person at a terminal before something goes; nobody else is asked."""

from __future__ import annotations

import sys

from convmem.cli.output.messages import is_terminal


def confirm(question: str) -> bool:
    """Return whether the person at the terminal says yes; true where there is no person."""
    if not is_terminal(sys.stdin) or not is_terminal(sys.stderr):
        return True
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
