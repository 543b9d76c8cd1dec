"""Python callables as tools: for tests, and for tools too small to be a server.

They run inside the gateway, with its rights and its secrets, so only what the configuration names is loaded:
``module:attribute`` (a callable, a list of callables or a mapping of names to callables) or an entry point of
the group ``wardgate.tools``. Arguments are typed by the signature, and what decides whether they fit is built
once from it. Plain functions run in threads, coroutine functions on the event loop.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import re
import threading
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import entry_points
from typing import Any, Final, NotRequired

import msgspec
import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError
from typing_extensions import TypedDict

from gateway.config_upstream import UpstreamConfig
from gateway.errors import BadArguments, ConfigError, InDoubt, NotSent
from gateway.ports import Dialogue
from gateway.upstreams.jsonrpc import METHOD_NOT_FOUND, Message, Request
from gateway.upstreams.mcp import era
from gateway.upstreams.mcp.era import Info
from gateway.upstreams.peer import Owner, Status

logger = logging.getLogger("wardgate.upstreams")

GROUP: Final = "wardgate.tools"
THREADS: Final = 16  # plain functions of one upstream at once
INVALID_PARAMS: Final = -32602

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_ERRORS: Final = 3  # told at once
_CLOSE_S: Final = 2.0  # for coroutines that are slow to listen
_UNTYPED: Final = (PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError, NameError)


class ToolError(Exception):
    """Raise it in a tool to tell the agent something; the text of any other exception stays in the log."""


class _Tool(msgspec.Struct, frozen=True):
    run: Callable[..., Any]
    is_async: bool
    arguments: TypeAdapter[Any]
    answer: TypeAdapter[Any]
    structured: bool
    definition: dict[str, Any]


class PythonPeer:
    def __init__(self, name: str, config: UpstreamConfig) -> None:
        assert config.python is not None
        self._name = name
        where = f"upstreams.{name}.python"
        self._tools = {each: _tool(each, run, where) for each, run in _named(config.python, where)}
        listed = orjson.dumps({"tools": [tool.definition for tool in self._tools.values()]})
        self._listed = Message(jsonrpc="2.0", id=0, result=msgspec.Raw(listed))
        self._info = Info(era="modern", version=era.MODERN, name=name, capabilities={"tools": {}})
        self._threads = asyncio.Semaphore(THREADS)
        self._tasks: set[asyncio.Task[Any]] = set()

    # ----------------------------------------------------------------------------------------- port

    async def call(self, request: Request, owner: Owner, at: float, dialogue: Dialogue | None) -> Message:
        if request.method == "tools/list":
            return self._listed
        if request.method != "tools/call":
            return _error(METHOD_NOT_FOUND, "Method not found")
        params = orjson.loads(b"{%b}" % request.params_json)
        tool = self._tools.get(params["name"])
        if tool is None:
            return _error(INVALID_PARAMS, "Unknown tool")
        arguments = _arguments(tool, orjson.dumps(params["arguments"]))
        try:
            value = await (self._on_loop if tool.is_async else self._in_thread)(tool, arguments, at, dialogue)
            return _result(tool, value)
        except ToolError as error:
            return _failed(str(error))
        except (InDoubt, NotSent):
            raise
        except Exception as error:
            # What it says may hold anything the tool knows, so the agent learns that it failed and no more.
            logger.warning("upstream %s: the tool %s failed", self._name, params["name"], exc_info=error)
            return _failed("The tool failed.")
        finally:
            if dialogue is not None:
                dialogue.hook = None

    async def info(self, at: float) -> Info:
        return self._info

    def status(self) -> Status:
        return Status(upstream=self._name, transport="python", connected=True, info=self._info)

    def ended(self, thread: str) -> None:
        """Nothing is kept for a client."""

    async def close(self) -> None:
        """End coroutines; a thread cannot be ended, and does not keep the process from ending."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_S)

    # ------------------------------------------------------------------------------------------ run

    async def _on_loop(
        self, tool: _Tool, arguments: dict[str, Any], at: float, dialogue: Dialogue | None
    ) -> Any:
        _not_given_up(dialogue)
        task = asyncio.create_task(tool.run(**arguments))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        if dialogue is not None and dialogue.severable:
            dialogue.hook = partial(_cancel, task)
        left = at - asyncio.get_running_loop().time()
        try:
            done, _ = await asyncio.wait((task,), timeout=max(left, 0))
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()  # it may not listen: it is not waited for
            raise InDoubt("upstream_timeout", "the tool did not end in time")
        if task.cancelled():
            given_up = dialogue is not None and dialogue.cancelled
            raise InDoubt("cancelled" if given_up else "upstream_lost", "the tool was cancelled")
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; after the deadline nobody does

    async def _in_thread(
        self, tool: _Tool, arguments: dict[str, Any], at: float, dialogue: Dialogue | None
    ) -> Any:
        _not_given_up(dialogue)
        try:
            async with asyncio.timeout_at(at):
                await self._threads.acquire()
        except TimeoutError:
            raise NotSent("overloaded", f"{THREADS} calls of '{self._name}' are running") from None
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Any] = loop.create_future()
        if dialogue is not None and dialogue.severable:
            dialogue.hook = partial(_give_up, outcome)

        def run() -> None:
            try:
                value, failure = tool.run(**arguments), None
            except BaseException as error:  # noqa: BLE001 - SystemExit of a tool ends the tool, not the gateway
                value, failure = None, error
            try:
                loop.call_soon_threadsafe(self._came_back, outcome, value, failure)
            except RuntimeError:
                logger.debug("upstream %s: a tool ended after the gateway", self._name)

        # A daemon, unlike an executor's: a tool that never ends must not keep the gateway from ending.
        try:
            threading.Thread(target=run, name=f"tool-{self._name}", daemon=True).start()
        except RuntimeError as error:
            self._threads.release()
            raise NotSent("overloaded", str(error)) from None
        try:
            async with asyncio.timeout_at(at):
                return await outcome
        except TimeoutError:
            if outcome.done() and not outcome.cancelled():
                raise  # the tool's own
            raise InDoubt("upstream_timeout", "the tool did not end in time") from None

    def _came_back(self, outcome: asyncio.Future[Any], value: Any, failure: BaseException | None) -> None:
        self._threads.release()
        if outcome.done():  # the deadline was faster
            return
        if failure is None:
            outcome.set_result(value)
        elif isinstance(failure, Exception) and not isinstance(failure, StopIteration):
            outcome.set_exception(failure)
        else:  # no future takes these
            outcome.set_exception(RuntimeError(type(failure).__name__))


def _not_given_up(dialogue: Dialogue | None) -> None:
    if dialogue is not None and dialogue.cancelled:
        raise NotSent("cancelled")


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


def _give_up(outcome: asyncio.Future[Any]) -> None:
    """The client no longer waits; the thread goes on, for nothing can end it."""
    if not outcome.done():
        outcome.set_exception(InDoubt("cancelled", "given up by the client"))


# ------------------------------------------------------------------------------------------------ loading


def _named(said: str, where: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The callables that the configuration names, with their names as tools."""
    try:
        found = _load(said, where)
    except ConfigError:
        raise
    except Exception as error:  # whatever a module does while it is imported is a fault of configuration
        raise ConfigError(f"{where}: '{said}' cannot be loaded: {type(error).__name__}: {error}") from error
    if isinstance(found, Mapping):
        pairs = [(str(name), run) for name, run in found.items()]
    else:
        many = found if isinstance(found, list | tuple) else [found]
        pairs = [(getattr(run, "__name__", ""), run) for run in many]
    if not pairs:
        raise ConfigError(f"{where}: '{said}' names no callable")
    seen: set[str] = set()
    for name, run in pairs:
        if not callable(run) or not _NAME.fullmatch(name):
            raise ConfigError(f"{where}: {name!r} of '{said}' is no callable with a plain name")
        if name in seen:
            raise ConfigError(f"{where}: '{said}' has two tools called '{name}'")
        seen.add(name)
        yield name, run


def _load(said: str, where: str) -> Any:
    module, colon, attribute = said.partition(":")
    if not colon:
        found = list(entry_points(group=GROUP, name=said))
        if len(found) != 1:
            raise ConfigError(f"{where}: {len(found)} entry points of {GROUP} are called '{said}'")
        return found[0].load()
    value: Any = importlib.import_module(module)
    for part in attribute.split("."):
        value = getattr(value, part)
    return value


def _tool(name: str, run: Callable[..., Any], where: str) -> _Tool:
    try:
        signature = inspect.signature(run)
        hints = typing.get_type_hints(
            run if inspect.isroutine(run) else type(run).__call__, include_extras=True
        )
        fields: dict[str, Any] = {}
        for each in signature.parameters.values():
            if each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
                raise ConfigError(f"{where}: '{name}' takes {each}, which has no name an agent could give")
            if each.name not in hints:
                raise ConfigError(f"{where}: '{name}' does not say the type of '{each.name}'")
            hint = hints[each.name]
            fields[each.name] = hint if each.default is each.empty else NotRequired[hint]
        # A mapping has no attributes that an argument's name could collide with.
        typed_dict: Any = TypedDict
        given = typed_dict(name, fields)
        given.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)
        arguments: TypeAdapter[Any] = TypeAdapter(given)
        answer: TypeAdapter[Any] = TypeAdapter(hints.get("return", Any))
        output = answer.json_schema(mode="serialization")
    except (ValueError, TypeError, *_UNTYPED) as error:
        raise ConfigError(f"{where}: '{name}' cannot be typed: {error}") from error
    schema = arguments.json_schema()
    schema.pop("title", None)
    structured = output.get("type") == "object"
    definition = {
        "name": name,
        "description": inspect.getdoc(run) or name,
        "inputSchema": schema,
        **({"outputSchema": output} if structured else {}),
    }
    called = run if inspect.isroutine(run) else getattr(run, "__call__", run)  # noqa: B004
    is_async = inspect.iscoroutinefunction(called)
    return _Tool(run, is_async, arguments, answer, structured, definition)


# ------------------------------------------------------------------------------------------------- values


def _arguments(tool: _Tool, args_json: bytes) -> dict[str, Any]:
    try:
        made: dict[str, Any] = tool.arguments.validate_json(args_json)
    except ValidationError as error:
        said = [
            f"{'/'.join(map(str, each['loc'])) or 'the arguments'}: {each['msg']}"
            for each in error.errors(include_input=False, include_url=False, include_context=False)[:_ERRORS]
        ]
        raise BadArguments("; ".join(said)[:400]) from None
    return made


def _result(tool: _Tool, value: Any) -> Message:
    said = tool.answer.dump_json(value, warnings="none")
    text = value if isinstance(value, str) else "Done." if value is None else said.decode()
    made: dict[str, Any] = {"content": [{"type": "text", "text": text}]}
    if tool.structured and said.startswith(b"{"):
        made["structuredContent"] = orjson.Fragment(said)
    return Message(jsonrpc="2.0", id=0, result=msgspec.Raw(orjson.dumps(made)))


def _failed(text: str) -> Message:
    result = {"content": [{"type": "text", "text": text}], "isError": True}
    return Message(jsonrpc="2.0", id=0, result=msgspec.Raw(orjson.dumps(result)))


def _error(code: int, message: str) -> Message:
    return Message(jsonrpc="2.0", id=0, error=msgspec.Raw(orjson.dumps({"code": code, "message": message})))
