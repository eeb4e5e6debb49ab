"""Where the tools whose transcripts convmem reads keep them, in the home directory of this user."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

_PLATFORM: str = sys.platform


def transcript_places(env: Mapping[str, str]) -> list[str]:
    """Return the files and folders with transcripts that are there, by what the tools document.

    Each tool's own variable, where it has one, is followed as the tool does.
    """
    home = os.path.expanduser("~")
    codex = env.get("CODEX_HOME") or os.path.join(home, ".codex")
    gemini = os.path.join(env.get("GEMINI_CLI_HOME") or home, ".gemini")
    candidates = [
        *(os.path.join(each, "projects") for each in _claude_folders(env, home)),
        os.path.join(codex, "sessions"),
        os.path.join(codex, "archived_sessions"),
        os.path.join(gemini, "tmp"),
        os.path.join(env.get("LLM_USER_PATH") or _llm_folder(env, home), "logs.db"),
        os.path.join(home, ".aider.chat.history.md"),
    ]
    found: list[str] = []
    for place in candidates:
        if os.path.exists(place) and place not in found:
            found.append(place)
    return found


def _claude_folders(env: Mapping[str, str], home: str) -> list[str]:
    moved = env.get("CLAUDE_CONFIG_DIR")
    if moved:
        return moved.split(",")
    return [os.path.join(home, ".claude"), os.path.join(home, ".config", "claude")]


def _llm_folder(env: Mapping[str, str], home: str) -> str:
    """Where click puts the folder of an application, which is what llm asks."""
    if _PLATFORM == "darwin":
        return os.path.join(home, "Library", "Application Support", "io.datasette.llm")
    if _PLATFORM == "win32":
        return os.path.join(env.get("APPDATA") or home, "io.datasette.llm")
    config = env.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return os.path.join(config, "io.datasette.llm")
