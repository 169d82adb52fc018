"""MCP: a server with the tools ``retrieve``, ``prompt`` and ``tasks``, for agents."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from udr.client import AsyncClient
from udr.data import Task
from udr.errors import MissingExtraError, UdrError, UnknownTaskError, brief
from udr.models import load_tokenizer
from udr.prompts import Format, Prompt, PromptBuilder
from udr.retrieval import Retriever

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
except ImportError as error:
    raise MissingExtraError("mcp", "mcp") from error

Input = str | dict[str, Any]
Source = Retriever | AsyncClient

_INSTRUCTIONS = (
    "Solved examples of tasks, chosen for one query. Call tasks first; then retrieve for the examples, or prompt for a "
    "prompt that shows them."
)


def open_source(place: str) -> Source:
    """Return the index in a directory, or the client of a service at an ``http`` or ``https`` URL.

    Raises:
        UdrError: the index cannot be opened, or the URL is invalid.
    """
    return AsyncClient(place) if place.startswith(("http://", "https://")) else Retriever.open(Path(place))


def mcp_server(source: Source) -> MCPServer:
    """Return a server whose tools read a source, which the caller closes. Errors of udr are told to the agent."""
    server = MCPServer("udr", instructions=_INSTRUCTIONS, log_level="WARNING")

    @server.tool()
    async def tasks() -> dict[str, Any]:
        """List the tasks: what each is for, the fields of its input, and its labels."""
        found = await _told(_tasks(source))
        return {name: {**task.to_json(), "fields": list(task.fields)} for name, task in found.items()}

    @server.tool()
    async def retrieve(task: str, input: Input, k: int = 8) -> dict[str, Any]:
        """Return the k demonstrations (solved rows) of a task nearest to an input: fields by name, or one text."""
        return dict((await _told(source.aretrieve(task, input, k))).to_json())

    @server.tool()
    async def prompt(task: str, input: Input, budget: int, k: int = 8, reserve: int = 0) -> dict[str, Any]:
        """Return a prompt for an input that shows as many of the k nearest demonstrations as fit a budget of tokens."""
        return dict((await _told(_prompt(source, task, input, k, budget, reserve))).to_json())

    return server


async def _told(result: Any) -> Any:  # noqa: ANN401
    """Return what is awaited; raise udr's errors as the library tells them to agents."""
    try:
        return await result
    except UdrError as error:
        raise ToolError(str(error)) from error


async def _tasks(source: Source) -> Mapping[str, Task]:
    return source.tasks if isinstance(source, Retriever) else await source.tasks()


async def _prompt(source: Source, task: str, input: Input, k: int, budget: int, reserve: int) -> Prompt:
    if not isinstance(source, Retriever):
        return await source.prompt(task, input, k=k, budget=budget, reserve=reserve)
    if task not in source.tasks:
        raise UnknownTaskError(f"unknown task {brief(task)}; the tool tasks lists them")
    builder = PromptBuilder(load_tokenizer(source.tokenizer), budget, reserve)
    return builder.build(source.tasks[task], input, await source.aretrieve(task, input, k), Format.TEXT)
