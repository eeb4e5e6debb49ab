"""A small process that starts programs for the benchmarks, and says how they did.

A program begins with the memory of the one that starts it counted as its own peak, so a large
one cannot measure a small one. This stays small, and is told what to run a JSON line each.
"""

import json
import os
import sys
import time


def run(words, stdin, env):
    """Run a program to its end, its output thrown away; *stdin* is a file's name or ``None``."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, stdin or os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    ]
    began = time.perf_counter()
    process = os.posix_spawnp(words[0], words, env, file_actions=actions)
    _, status, used = os.wait4(process, 0)
    seconds = time.perf_counter() - began
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / unit,
        "status": os.waitstatus_to_exitcode(status),
    }


for line in sys.stdin:
    print(json.dumps(run(**json.loads(line))), flush=True)
