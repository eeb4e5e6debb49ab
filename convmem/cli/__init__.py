"""The command line: verbs, their options, and the one error boundary."""

from __future__ import annotations

import sys

from convmem.cli.boundary import run


def main() -> None:
    """Run the process's command line and exit with its code: the ``convmem`` program."""
    status = run()
    # The process ends: going through all that is loaded for garbage takes a tenth of a short run.
    import gc

    gc.disable()
    sys.exit(status)
