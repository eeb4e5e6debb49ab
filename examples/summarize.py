"""Sums up the turns that a compaction takes away, with a model or without.

    convmem compact ID --keep-last 50 --summarize-with 'python3 examples/summarize.py'

So it needs no model: earlier summaries are kept whole, and of all other turns it says who spoke
how often, from when to when, and how each of the user's turns began.

With a model, name the command that asks it. It gets the conversation as plain text on standard
input, and what it prints becomes the summary. With https://llm.datasette.io, for example:

    convmem compact ID --keep-last 50 --summarize-with \
      'python3 examples/summarize.py llm -s "Sum this up in 200 words: names, numbers, decisions."'

If that command fails or prints nothing, so does this, and then nothing is compacted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any

LONGEST = 100
"""How much of a user's turn is kept, in characters."""


def text_of(content: Any) -> str:
    """Return what *content* says, whether it is a text or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(filter(None, map(text_of, content)))
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        return str(content["text"])
    return json.dumps(content, ensure_ascii=False)


def transcript(turns: list[dict[str, Any]]) -> str:
    """Return the conversation as a model reads it best."""
    return "".join(f"{turn['role']}: {text_of(turn['content'])}\n\n" for turn in turns)


def without_a_model(turns: list[dict[str, Any]]) -> str:
    """Return earlier summaries, figures, and the beginnings of what the user said."""
    earlier = [text_of(turn["content"]) for turn in turns if "summary" in turn]
    said = [turn for turn in turns if "summary" not in turn]
    times = sorted(turn["ts"][:10] for turn in said if turn["ts"])
    roles = Counter(turn["role"] for turn in said)
    figures = ", ".join(f"{role} {count:,}" for role, count in roles.most_common())
    span = f", {times[0]} to {times[-1]}" if times else ""
    lines = [*earlier, f"{len(said):,} turns{span} ({figures})."]
    for turn in said:
        words = " ".join(text_of(turn["content"]).split())
        if turn["role"] == "user" and words:
            lines.append(f"- {words[:LONGEST]}{'…' if len(words) > LONGEST else ''}")
    return "\n".join(lines)


def main(command: list[str]) -> int:
    """Sum up standard input; return the exit code."""
    turns = [json.loads(line) for line in sys.stdin.buffer]
    if not command:
        print(without_a_model(turns))
        return 0
    return subprocess.run(command, input=transcript(turns).encode(), check=False).returncode


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    raise SystemExit(main(sys.argv[1:]))
