"""An agent server in one file: requests on many threads, one archive, nothing said is lost.

    python3 examples/agent_server.py [ARCHIVE]

Starts, is asked by three clients at once (which repeat a request, as clients do), prints what a
follower saw, and ends. Without ARCHIVE it works in a temporary folder. The model is a fake: put
your own into ``model``. ``GET /metrics`` is for Prometheus.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import uuid
from datetime import timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

from convmem import (
    Archive,
    Conversation,
    ConvmemError,
    Durability,
    EventLog,
    InvalidContinuationId,
    InvalidTurn,
    LockTimeout,
    Metrics,
    Observers,
    Turn,
    TurnConflict,
)

# Each answer within one second of being given, or after 50 of them: what a power cut may take of
# the model's words. They could be asked for again; the user's could not, see `critical` below.
POLICY = Durability.interval(turns=50, seconds=1.0)
# What the model is given: it fits its context, and begins with what it should be.
BUDGET = 4000
SYSTEM = "Say yes, and be brief."
LOBBY = "lobby"


def model(question: str, messages: list[dict[str, Any]], session: str) -> str:
    """Answer *question*; *messages* is what was said, ready for a provider's API."""
    return f"{question}? I say yes ({len(messages)} messages read, session {session[:4]})."


def session_of(chat: Conversation) -> str:
    """Return the provider's session for this chat; begin one if there is none, or it is too old.

    It is kept beside the turns, over restarts, and never becomes part of what the model reads.
    """
    session = chat.state().get("session")
    if session is None:
        session = uuid.uuid4().hex  # from the provider; of two threads that come here, one stays
        session = chat.update_state({"session": session}, ttl=timedelta(hours=1))["session"]
    return str(session)


def answer(chat: Conversation, request_id: str, text: str) -> Turn:
    """Record the question, ask the model, record its answer; a repeated request gets the first.

    Both turns have ids that follow from the request's, so that it does not matter how often the
    client sends it, how many threads it reaches at a time, or where an earlier try ended.
    """
    question = chat.record("user", text, id=f"{request_id}:question", critical=True)
    asked = question.seq or 0
    answer_id = f"{request_id}:answer"
    for turn in chat.turns(after=asked):
        if turn.id == answer_id:
            return turn
    # The newest turns that fit, as of now. Where several people talk at once, as in this lobby, the
    # last of them need not be the question.
    window = chat.context(max_tokens=BUDGET, pinned=SYSTEM)
    said = model(question.text, window.as_messages(), session_of(chat))
    try:
        return chat.record("assistant", said, id=answer_id)
    except TurnConflict as conflict:
        # Another thread had the same request and was first, and models seldom say a thing twice.
        return next(chat.turns(after=(conflict.seq or 1) - 1))


class Handler(BaseHTTPRequestHandler):
    """``POST /chats/ID`` with ``{"request_id": …, "text": …}``; each request in its own thread."""

    server: Server

    def do_GET(self) -> None:
        """Show the figures."""
        if self.path == "/metrics":
            self.send(200, "text/plain; version=0.0.4", self.server.metrics.prometheus())
        else:
            self.reply(404, {"error": "there is only /metrics"})

    def do_POST(self) -> None:
        """Answer one request."""
        try:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            chat = self.server.archive.conversation(unquote(self.path.removeprefix("/chats/")))
            turn = answer(chat, body["request_id"], body["text"])
        except (InvalidContinuationId, InvalidTurn, ValueError, KeyError, TypeError) as error:
            self.reply(400, {"error": str(error)})
        except TurnConflict as error:  # one request id, two questions
            self.reply(409, {"error": str(error)})
        except LockTimeout as error:
            self.reply(503, {"error": str(error)})
        except ConvmemError as error:  # disk full, sync failed: not acknowledged, so say so
            self.reply(500, {"error": str(error), "kind": error.kind})
        else:
            self.reply(200, {"seq": turn.seq, "text": turn.text})

    def reply(self, status: int, value: dict[str, object]) -> None:
        """Send *value* as JSON."""
        self.send(status, "application/json", json.dumps(value))

    def send(self, status: int, kind: str, text: str) -> None:
        """Send *text*."""
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    """Holds the one archive that all threads share, and what counts its work."""

    daemon_threads = False  # closing the server waits for requests that are being answered

    def __init__(self, archive: Archive, metrics: Metrics) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.archive = archive
        self.metrics = metrics


def ask(port: int, chat: str, request_id: str, text: str) -> str:
    """Be a client."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        body = json.dumps({"request_id": request_id, "text": text})
        connection.request("POST", f"/chats/{quote(chat, safe='')}", body)
        response = connection.getresponse()
        told = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(told["error"])
    return str(told["text"])


def counted(port: int) -> str:
    """Be Prometheus: return how many turns were recorded, as ``/metrics`` says."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
    finally:
        connection.close()
    rows = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    return rows["convmem_recorded_turns_total"]


def client(port: int, name: str) -> None:
    """Ask three questions; the answer to the second gets lost on its way, so ask that again."""
    for number in (1, 2, 2, 3):
        ask(port, LOBBY, f"{name}-{number}", f"{name} asks question {number}")


def follow(chat: Conversation, seen: list[Turn]) -> None:
    """See every turn as it comes, also those of other processes, until the last word."""
    for turn in chat.follow():
        print(f"{turn.seq:3} {turn.role:9} {turn.text}", flush=True)
        if turn.role == "system":
            return
        seen.append(turn)


def main(root: str) -> None:
    """Serve, ask, follow, and end."""
    # One archive for the life of the process. It may be opened before or after a fork: a child
    # opens files and takes locks of its own.
    metrics = Metrics()
    with (
        Archive.open(root, durability=POLICY, observer=Observers(metrics, EventLog())) as archive,
        Server(archive, metrics) as server,
    ):
        lobby = archive.conversation(LOBBY)
        seen: list[Turn] = []
        serving = threading.Thread(target=server.serve_forever)
        following = threading.Thread(target=follow, args=(lobby, seen))
        serving.start()
        following.start()
        clients = [
            threading.Thread(target=client, args=(server.server_port, name))
            for name in ("ada", "bob", "cyd")
        ]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        turns = counted(server.server_port)
        server.shutdown()
        serving.join()
        lobby.record("system", "The server closes.")
        following.join()
        print(f"{len(seen)} turns, {len({turn.id for turn in seen})} ids; {turns} counted")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(folder)
