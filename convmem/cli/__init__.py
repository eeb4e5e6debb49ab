"""The command line: verbs, their options, and the one error boundary."""

from __future__ import annotations

import sys

from convmem.cli.boundary import run


def main() -> None:
    """Run the process's command line and exit with its code: the ``convmem`` program."""
    sys.exit(run())
