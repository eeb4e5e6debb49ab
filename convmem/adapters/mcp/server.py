"""The MCP server: a namespace of an archive as tools and resources, for many calls at once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mcp import MCPError, types
from mcp.server import Server

import convmem
from convmem import ConvmemError, UsageError, aio
from convmem.adapters.mcp import arguments, tools
from convmem.adapters.mcp.addresses import parsed, template_of, uri_of
from convmem.adapters.mcp.answers import Answer, Answers, Redact
from convmem.adapters.mcp.limits import Limits
from convmem.adapters.mcp.shown import line_of
from convmem.adapters.mcp.wire import serve_lines

_JSON = "application/json"
_logger = logging.getLogger("convmem")


class ConvmemServer:
    """Serves the conversations of one namespace.

    Whatever a client asks for, it reaches nothing outside of that. What fails is told to the model
    as the result of its call: convmem's kind, message and hint. Holds nothing that must be closed;
    the archive is the caller's.
    """

    def __init__(
        self,
        archive: convmem.Archive | aio.Archive,
        *,
        namespace: str | None = None,
        limits: Limits | None = None,
        read_only: bool = False,
        redact: Redact | None = None,
    ) -> None:
        """Touches no disk.

        Args:
            archive: Whose; opened and closed by the caller.
            namespace: The one namespace that is served; the archive's own by default.
            limits: How large turns and answers may be.
            read_only: Offer no tool that changes anything.
            redact: Gets content and meta of each turn before it is recorded, and returns them
                without what should not be stored. Called in threads; a retry must get the same.

        Raises:
            InvalidContinuationId: Nothing can be the name of that namespace.
        """
        self._archive = aio.Archive.of(archive)
        # The only way to learn the archive's own; of any conversation, there or not.
        self._namespace = self._archive.sync.conversation("any", namespace=namespace).namespace
        self._limits = limits or Limits()
        self._all_tools = tools.tools(self._limits)
        self._tools = {
            name: tool for name, tool in self._all_tools.items() if not (read_only and tool.writes)
        }
        self._answers = Answers(self._archive, self._namespace, self._limits, redact)
        self.server: Server[Any] = Server(
            "convmem",
            version=convmem.__version__,
            title="convmem",
            instructions=tools.INSTRUCTIONS,
            on_list_tools=self._on_list_tools,
            on_call_tool=self._on_call_tool,
            on_list_resources=self._on_list_resources,
            on_list_resource_templates=self._on_list_resource_templates,
            on_read_resource=self._on_read_resource,
        )

    async def serve(
        self,
        receive: Callable[[], Awaitable[bytes | None]],
        send: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Serve one client, line by line, until it has left; answer first what was begun.

        Args:
            receive: Returns the next line, or ``None`` at the end. Of a line that is longer than
                ``limits.message_bytes`` it may leave out the middle, if it stays longer than that.
            send: Writes one line.
        """
        await serve_lines(self.server, receive, send, most_bytes=self._limits.message_bytes)

    # --- tools ---------------------------------------------------------------------------------

    async def _on_list_tools(
        self, context: Any, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_tool(each) for each in self._tools.values()])

    async def _on_call_tool(
        self, context: Any, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        name = params.name
        try:
            if name not in self._tools:
                raise _no_tool(name, is_known=name in self._all_tools)
            given = arguments.checked(self._all_tools[name].takes, params.arguments)
            lines, answer = await self._answered(name, given)
        except ConvmemError as error:
            return _failed(error.kind, str(error), _hint_of(error))
        except Exception as error:
            # One call that meets a bug of ours must not end all others.
            _logger.exception("this is a bug in convmem: the tool %s failed", name)
            return _failed("bug", f"this is a bug in convmem: {type(error).__name__}: {error}")
        return types.CallToolResult(content=[_text("\n".join(lines))], structured_content=answer)

    async def _answered(self, name: str, given: dict[str, Any]) -> Answer:
        write = self._answers.writers.get(name)
        if write is not None:
            return await write(**given)
        read = self._answers.readers[name]
        return await self._archive.run(lambda: read(**given))

    # --- resources -----------------------------------------------------------------------------

    async def _on_list_resources(
        self, context: Any, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        cursor = None if params is None else params.cursor
        try:
            rows, more = await self._archive.run(
                lambda: self._answers.rows(limit=self._limits.turns, cursor=cursor, failed=[])
            )
        except ConvmemError as error:
            raise _protocol_error(error) from None
        resources = [
            types.Resource(
                uri=uri_of(self._namespace, row.continuation_id),
                name=row.continuation_id,
                title=row.title or row.continuation_id,
                mime_type=_JSON,
                annotations=types.Annotations(last_modified=row.last_text or None),
            )
            for row in rows
        ]
        return types.ListResourcesResult(resources=resources, next_cursor=more)

    async def _on_list_resource_templates(
        self, context: Any, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        conversation = types.ResourceTemplate(
            uri_template=template_of(self._namespace),
            name="conversation",
            title="The newest turns of a conversation",
            description="As the tool tail gives them. Each byte of the id that is no letter, digit,"
            " dot, dash or underscore is percent-encoded.",
            mime_type=_JSON,
        )
        return types.ListResourceTemplatesResult(resource_templates=[conversation])

    async def _on_read_resource(
        self, context: Any, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        try:
            conversation, numbers = parsed(params.uri, self._namespace)
            takes = self._all_tools["tail"].takes
            given = arguments.checked(takes, {"conversation": conversation, **numbers})
            _, answer = await self._answered("tail", given)
        except ConvmemError as error:
            raise _protocol_error(error, uri=params.uri) from None
        text = types.TextResourceContents(uri=params.uri, mime_type=_JSON, text=line_of(answer))
        return types.ReadResourceResult(contents=[text])


def _tool(spec: tools.ToolSpec) -> types.Tool:
    return types.Tool(
        name=spec.name,
        title=spec.title,
        description=spec.description,
        input_schema=spec.takes,
        output_schema=spec.gives,
        annotations=types.ToolAnnotations(
            title=spec.title,
            read_only_hint=not spec.writes,
            destructive_hint=False,
            idempotent_hint=spec.is_idempotent,
            open_world_hint=False,
        ),
    )


def _text(text: str) -> types.TextContent:
    return types.TextContent(type="text", text=text)


def _failed(kind: str, message: str, hint: str | None = None) -> types.CallToolResult:
    error = {"kind": kind, "message": message}
    if hint is not None:
        error["hint"] = hint
    return types.CallToolResult(
        content=[_text(f"Failed: {line_of(error)}")],
        structured_content={"error": error},
        is_error=True,
    )


def _hint_of(error: ConvmemError) -> str | None:
    if isinstance(error, convmem.ConversationNotFound):
        return "see which there are with the tool list"  # a model may have no shell
    return error.hint


def _no_tool(name: str, *, is_known: bool) -> Exception:
    if is_known:
        error = ConvmemError(f"{name}: this server is read-only", hint="nothing was changed")
        error.kind = "permission"
        return error
    return UsageError(f"there is no tool {name[:60]!r}", hint="tools/list names them all")


def _protocol_error(error: ConvmemError, **more: str) -> MCPError:
    is_asking = error.kind in ("not_found", "usage", "invalid_id")
    code = types.INVALID_PARAMS if is_asking else types.INTERNAL_ERROR
    data = {"kind": error.kind, "hint": _hint_of(error), **more}
    return MCPError(code=code, message=str(error), data=data)
