"""The Claude Agent SDK with its sessions in an archive: they outlive the program, and its disk.

    python3 examples/claude_agent_sdk_store.py [ARCHIVE]

Asks, ends, and asks again with nothing left of the first run but the archive. Without ARCHIVE it
works in a temporary folder. Claude Code is a fake here: leave ``cli_path`` out and it is the real
one. (The file is not called ``claude_agent_sdk.py``, since Python would take it for the SDK.)
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ResultMessage, query

from convmem import Archive
from convmem.adapters.claude_agent_sdk import ConvmemSessionStore

# What Claude Code does of all this: it reads the transcript that it is to go on from, tells the
# SDK which lines it adds to it, and answers with all that it was ever told.
FAKE = """#!{python}
import json, os, re, sys, uuid
from pathlib import Path

given = dict(word[2:].split("=", 1) for word in sys.argv if word.startswith("--") and "=" in word)
session = given.get("resume") or str(uuid.uuid4())
project = re.sub("[^a-zA-Z0-9]", "-", os.path.realpath("."))
path = Path(os.environ["CLAUDE_CONFIG_DIR"], "projects", project, session + ".jsonl")
known = [json.loads(line) for line in path.open()] if path.exists() else []

def say(value):
    print(json.dumps(value), flush=True)

for line in sys.stdin:
    asked = json.loads(line)
    if asked["type"] == "control_request":
        about = dict(subtype="success", request_id=asked["request_id"], response=dict())
        say(dict(type="control_response", response=about))
    if asked["type"] != "user":
        continue
    entries = []
    for role in "user", "assistant":
        if role == "assistant":
            heard = [it["message"]["content"] for it in known + entries if it["type"] == "user"]
            text = [dict(type="text", text="You said: " + "; ".join(heard))]
            message = dict(role=role, model="fake", content=text)
        else:
            message = dict(role=role, content=asked["message"]["content"])
        parent = (known + entries)[-1]["uuid"] if known + entries else None
        entries.append(dict(type=role, uuid=str(uuid.uuid4()), parentUuid=parent, message=message,
                            sessionId=session, timestamp="2026-11-21T09:00:00.000Z"))
    known += entries
    say(dict(type="transcript_mirror", filePath=str(path), entries=entries))
    say(dict(type="assistant", message=message, session_id=session))
    say(dict(type="result", subtype="success", duration_ms=1, duration_api_ms=1, is_error=False,
             num_turns=1, session_id=session))
"""


async def ask(archive: Archive, prompt: str, folder: Path, resume: str | None = None) -> str:
    """Ask once, print the answer, and return the session's id."""
    program = folder / "claude"
    program.write_text(FAKE.replace("{python}", sys.executable))
    program.chmod(0o700)
    options = ClaudeAgentOptions(
        session_store=ConvmemSessionStore(archive),
        resume=resume,
        cwd=folder,
        cli_path=program,
        env={"CLAUDE_CONFIG_DIR": str(folder / "config")},
    )
    session = ""
    async for message in query(prompt=prompt, options=options):
        if isinstance(message, AssistantMessage):
            print("assistant:", *(getattr(block, "text", "") for block in message.content))
        if isinstance(message, ResultMessage):
            session = message.session_id
    return session


def main(root: str, folder: Path) -> None:
    """Run the program, as it were, twice."""
    with Archive.open(root) as archive:
        session = asyncio.run(ask(archive, "How do I get to Oslo?", folder))
    with Archive.open(root) as archive:
        asyncio.run(ask(archive, "And by train?", folder, resume=session))
        (listed,) = [
            each for each in archive.overview() if each.continuation_id.startswith(session)
        ]
        print("convmem tail", listed.continuation_id.split("@")[0] + "@…")
        for turn in archive.conversation(listed.continuation_id).tail(4):
            print(turn.seq, turn.role, turn.text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(sys.argv[1] if len(sys.argv) > 1 else f"{made}/archive", Path(made))
