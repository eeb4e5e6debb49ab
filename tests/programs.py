"""Programs as a user's shell finds them: convmem on the PATH, and no more of ours than that."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest

import convmem

HOUSE = Path(convmem.__file__).parents[1]

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not on this machine")


def install(folder: Path) -> Path:
    """Put ``convmem`` and ``python3`` into *folder*, as an installation into it would."""
    folder.mkdir(parents=True, exist_ok=True)
    python = shlex.quote(sys.executable)
    for name, command in (("convmem", f"{python} -m convmem"), ("python3", python)):
        program = folder / name
        setting = f"PYTHONPATH={shlex.quote(str(HOUSE))}"
        program.write_text(f'#!/bin/sh\n{setting} exec {command} "$@"\n')
        program.chmod(0o755)
    return folder


def link(folder: Path, *names: str) -> Path:
    """Put links to the system's own programs *names* into *folder*."""
    for name in names:
        found = shutil.which(name)
        assert found is not None, f"{name} is on every machine"
        (folder / name).symlink_to(found)
    return folder
