"""llm: makes a log of answered prompts as ``llm`` keeps it, for ``llm logs`` to read.

python llm_logs.py DATABASE COUNT
"""

from __future__ import annotations

import sys

import llm
import sqlite_utils
from llm.migrations import migrate
from protocol import TEXT


class Echo(llm.Model):
    """A model that needs no key, no network and no time."""

    model_id = "echo"
    can_stream = False

    def execute(self, prompt, stream, response, conversation):  # type: ignore[no-untyped-def]
        """Answer with the prompt."""
        yield prompt.prompt


def main(path: str, count: int) -> None:
    """Ask the model, and log each answer as the program does."""
    database = sqlite_utils.Database(path)
    migrate(database)
    conversation = Echo().conversation()
    for _ in range(count):
        response = conversation.prompt(TEXT, stream=False)
        response.text()
        response.log_to_db(database)
        conversation.responses.clear()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
