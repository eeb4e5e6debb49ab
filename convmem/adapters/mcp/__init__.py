"""An MCP server: conversations as tools and resources of the Model Context Protocol."""

from __future__ import annotations

try:
    from mcp import Client as _Since2  # noqa: F401 - version 1 is another library under the name
except ImportError as error:
    raise ImportError(
        "convmem.adapters.mcp needs mcp 2.1 or later: pip install 'convmem[mcp]'"
    ) from error

from convmem.adapters.mcp.limits import Limits
from convmem.adapters.mcp.server import ConvmemServer

__all__ = ["ConvmemServer", "Limits"]
