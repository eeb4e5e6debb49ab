"""The wire: lines of JSON-RPC in and out, whatever a client sends, and an answer to all of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Self

from mcp import types
from mcp.server import Server
from mcp.shared.message import SessionMessage
from mcp.types.jsonrpc import jsonrpc_message_adapter

# So many requests of one client are worked on at once; the next waits in the pipe.
_MOST_PENDING = 256
_DRAIN_SECONDS = 15.0
# A message of such a length takes a millisecond to parse.
_LONG_BYTES = 64 << 10

_ID = rb'"id"\s*:\s*(-?[0-9]{1,18}(?=[\s,}])|"[^"\\\x00-\x1f]{0,200}")'
# Where clients put the id: behind the version, or last. Nothing inside of params looks like that.
_ID_FIRST = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID)
_ID_LAST = re.compile(rb",\s*" + _ID + rb"\s*\}\s*\Z")


async def serve_lines(
    server: Server[Any],
    receive: Callable[[], Awaitable[bytes | None]],
    send: Callable[[bytes], Awaitable[None]],
    *,
    most_bytes: int,
) -> None:
    """Serve one client until *receive* returns ``None`` and all that was begun is answered.

    The SDK's own loop over standard streams drops what is no message without an answer, forgets
    requests that are under way when the input ends, and takes lines and requests without bound.
    """
    wire = _Wire(receive, send, most_bytes)
    await server.run(_Incoming(wire), _Outgoing(wire), server.create_initialization_options())


class _Wire:
    """What both directions share: which requests are not answered yet."""

    def __init__(
        self,
        receive: Callable[[], Awaitable[bytes | None]],
        send: Callable[[bytes], Awaitable[None]],
        most_bytes: int,
    ) -> None:
        self._receive = receive
        self._send = send
        self._most_bytes = most_bytes
        self._pending: set[str] = set()
        self._settled = asyncio.Event()

    async def next(self) -> SessionMessage | None:
        """Return the next message, ``None`` when there will be none and all are answered."""
        while True:
            await self._until_fewer_than(_MOST_PENDING)
            line = await self._receive()
            if line is None:
                try:
                    async with asyncio.timeout(_DRAIN_SECONDS):
                        await self._until_fewer_than(1)
                except TimeoutError:
                    pass  # the client has left, and reads no more
                return None
            if not line.strip():
                continue
            message = await self._parsed(line)
            if message is not None:
                self._note(message)
                return SessionMessage(message)

    async def send(self, message: Any) -> None:
        """Write one message; the request that it answers is then no more pending."""
        try:
            await self._send(_dumped(message))
        finally:
            if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
                self._settle(message.id)

    async def _parsed(self, line: bytes) -> Any:
        """Return the message, or answer what is none and return ``None``."""
        if len(line) > self._most_bytes:
            what = f"a message may be at most {self._most_bytes:,} bytes long"
            code = types.INVALID_REQUEST
        else:
            try:
                if len(line) > _LONG_BYTES:
                    return await asyncio.to_thread(_loaded, line)
                return _loaded(line)
            except ValueError as error:
                what, code = _fault(error)
        error_data = types.ErrorData(code=code, message=what)
        await self.send(types.JSONRPCError(jsonrpc="2.0", id=_id_in(line), error=error_data))
        return None

    def _note(self, message: Any) -> None:
        if isinstance(message, types.JSONRPCRequest):
            self._pending.add(_key(message.id))
        elif (
            isinstance(message, types.JSONRPCNotification)
            and message.method == "notifications/cancelled"
        ):
            # It is never answered.
            self._settle((message.params or {}).get("requestId"))

    def _settle(self, request_id: Any) -> None:
        self._pending.discard(_key(request_id))
        self._settled.set()

    async def _until_fewer_than(self, count: int) -> None:
        while len(self._pending) >= count:
            self._settled.clear()
            await self._settled.wait()


class _Incoming:
    """What the SDK reads messages from."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage:
        message = await self._wire.next()
        if message is None:
            raise StopAsyncIteration
        return message

    async def aclose(self) -> None:
        """There is nothing to close."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """There is nothing to close."""


class _Outgoing:
    """What the SDK writes messages to."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    async def send(self, item: SessionMessage, /) -> None:
        """Write one message."""
        await self._wire.send(item.message)

    async def aclose(self) -> None:
        """There is nothing to close."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """There is nothing to close."""


def _loaded(line: bytes) -> Any:
    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    if isinstance(message, types.JSONRPCNotification) and "id" in json.loads(line):
        # A request whose id is none is taken for a notification, and its caller would wait.
        raise _NoMessage
    return message


class _NoMessage(ValueError):
    """It is JSON."""


def _fault(error: Any) -> tuple[str, int]:
    """Return what is wrong with a line, in words and as JSON-RPC numbers it."""
    if not isinstance(error, _NoMessage):
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            return first["msg"], types.PARSE_ERROR
    return "this is no JSON-RPC message", types.INVALID_REQUEST


def _dumped(message: Any) -> bytes:
    text: str = message.model_dump_json(by_alias=True, exclude_unset=True)
    return text.encode() + b"\n"


def _id_in(line: bytes) -> int | str | None:
    """Return the id of a request that cannot be read, so that nobody waits for its answer."""
    found = _ID_FIRST.match(line[:400]) or _ID_LAST.search(line[-400:])
    if found is None:
        return None
    text = found[1].decode("utf-8", "replace")
    return text[1:-1] if text.startswith('"') else int(text)


def _key(request_id: Any) -> str:
    # As the SDK has it, "7" and 7 are one.
    return str(request_id)
