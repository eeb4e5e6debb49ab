"""Work on a large log that a process of its own does meanwhile: two cores take half the time.

Such a process reads what it is handed, prints what it found, and changes nothing. Where none can
be started, or it fails, who asked does the work himself, to the same end.
"""

from __future__ import annotations

import os
import sys

from convmem import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen

# Starting a process takes as long as going through some twenty megabytes.
WORTH_BYTES = 64 << 20
# Begins what is printed: in some environments every Python says something of its own first.
BEGIN = b"convmem.apart\n"
# Ends what is printed bit by bit: where SIGCHLD is ignored, a process that was killed passes for
# one that has ended well.
END = b"\0"


# On a higher floor, since it reads its arguments and prints: started by name, never imported.
_PROGRAM = "convmem.cli.apart"


def started(work: str, fd: int, *words: str) -> Popen[bytes] | None:
    """Start *work* on the open file *fd*; ``None`` where it cannot be. See ``cli.apart``.

    Its input and output are pipes. Use it in ``finished``, also where it is not waited for.
    """
    if os.name != "posix" or not _runs_python() or not _has_cores():
        return None
    from subprocess import DEVNULL, PIPE, Popen

    # Not forked: a child must not share this process's locks, nor what its threads were doing. And
    # -I: neither what stands in the folder where somebody works nor PYTHONPATH says what runs.
    command = [sys.executable, "-I", "-m", _PROGRAM, __version__, work, str(fd), *words]
    try:
        return Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, pass_fds=[fd])
    except OSError:
        return None


def finished(process: Popen[bytes]) -> bool:
    """End the process if it has not ended by itself; say whether it had, and well."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                pass  # it has ended without reading what it was given
    is_done = process.poll() is not None
    if not is_done:
        process.kill()
    return process.wait() == 0 and is_done


def _runs_python() -> bool:
    """Whether our own program is a Python: one that embeds it, or is frozen, would start itself."""
    name = os.path.basename(sys.executable or "")
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def _has_cores() -> bool:
    try:
        return len(os.sched_getaffinity(0)) > 1
    except AttributeError:  # not every system says which cores are ours
        return (os.cpu_count() or 1) > 1
