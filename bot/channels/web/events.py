"""The event streams of a conversation: server-sent events with ids, resumed by Last-Event-ID.

Owns the wire form and the life of a stream. Neither a stream nor a request that waits for its turn holds a thread: the
desk pushes, the loop writes, and an answer is finished and stored whether or not anybody still listens.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import assert_never

from anyio import to_thread
from starlette.responses import Response

from bot.channels.web.bodies import agent_body, turn_body
from bot.channels.web.limits import Allowance, too_many
from bot.channels.web.problems import Problem, busy, not_stored, problem_of
from bot.conversation.messages import Message, Turn
from bot.events import AgentEvent, Deliver, ErrorEvent, Event, StatusEvent, TokenEvent, TurnEvent
from bot.serving import Desk
from bot.storage.conversations import Conversation, note_seen
from bot.storage.database import Database

PING_SECONDS = 15
DEAD_AFTER_SECONDS = 30
"""A client that takes nothing for this long is gone; its stream is closed."""

RETRY_MILLISECONDS = 2000
RETRY_SECONDS = 5.0
BACKLOG = 2_000
"""Events a reader may lag behind. One that falls further is cut and resumes by Last-Event-ID, losing nothing."""

MOST_STREAMS = 2_000
"""Streams that may follow conversations at once."""

Item = Event | None
Wanted = tuple[type[Event], ...]
Leave = Callable[[], None]


class Streams:
    """What flows from the desk to the open requests of this process. Belongs to the event loop's thread."""

    def __init__(self, desk: Desk, database: Database, allowance: Allowance | None = None) -> None:
        self._desk = desk
        self._database = database
        self._allowance = allowance or Allowance()
        self._followers: dict[asyncio.Queue[Item], Conversation] = {}
        self._visitors: Counter[str] = Counter()
        self._closed = False

    @property
    def followers(self) -> int:
        """How many streams follow a conversation."""
        return len(self._followers)

    def open_of(self, visitor: str) -> int:
        """How many of them are a visitor's."""
        return self._visitors[visitor]

    def close(self, conversation: str | None = None, *, visitor: str | None = None) -> None:
        """End the streams that follow this conversation, or a visitor's; without one all of them, and those to come.

        Clients come back by themselves, to the next process. Streams of one answer end when the answer does.
        """
        self._closed = self._closed or (conversation is None and visitor is None)
        for queue, followed in self._followers.items():
            if self._closed or followed.id == conversation or followed.visitor == visitor:
                queue.put_nowait(None)

    async def follow(self, conversation: Conversation, after: int) -> AsyncIterator[bytes]:
        """Everything that happened above `after`, then what happens, for as long as the client listens.

        Raises Problem if the visitor, or all together, have as many streams open as they may; a client then asks
        again, or polls.
        """
        visitor = conversation.visitor
        if self._visitors[visitor] >= self._allowance.streams_per_visitor:
            raise too_many(RETRY_SECONDS)
        if self._visitors.total() >= self._allowance.streams:
            raise busy(RETRY_SECONDS)

        stream = self._follow(conversation, after)
        await anext(stream)  # has its place from here on, and gives it back however it ends
        return stream

    async def _follow(self, conversation: Conversation, after: int) -> AsyncGenerator[bytes]:
        def attach(deliver: Deliver) -> Leave:
            return self._desk.attach(conversation.id, after, deliver)

        self._visitors[conversation.visitor] += 1
        told: datetime | None = None
        try:
            yield b""
            yield f": open\r\nretry: {RETRY_MILLISECONDS}\r\n\r\n".encode()
            async with _listening(attach) as queue:
                self._followers[queue] = conversation
                try:
                    while not self._closed and (event := await queue.get()) is not None:
                        yield encode(event)
                        if isinstance(event, TurnEvent | AgentEvent):
                            told = datetime.now(UTC)
                finally:
                    del self._followers[queue]
        finally:
            self._visitors[conversation.visitor] -= 1
            if not self._visitors[conversation.visitor]:
                del self._visitors[conversation.visitor]
            if told is not None:
                note_seen(self._database, conversation.id, told)

    async def answer(
        self, message: Message, wanted: Wanted = (TokenEvent, TurnEvent, ErrorEvent)
    ) -> AsyncGenerator[TokenEvent | TurnEvent]:
        """Have the message answered; its text as it comes and last its turn. Raises Problem.

        A message that was answered before gives its stored turn alone.
        """
        stored: TurnEvent | None = None

        def attach(deliver: Deliver) -> Leave:
            nonlocal stored
            leave, stored = self._desk.listen(message, deliver)  # work begins with the call
            return leave

        try:
            async with _listening(attach, wanted) as queue:
                if stored is not None:
                    yield stored
                    return
                while (event := await queue.get()) is not None:
                    match event:
                        case TokenEvent(message_id=message.id):
                            yield event
                        case TurnEvent(turn=turn) if turn.message.id == message.id:
                            yield event
                            return
                        case ErrorEvent(message_id=message.id):
                            raise not_stored()
                        case _:
                            continue
                raise not_stored()
        except Exception as error:
            raise problem_of(error) from error

    async def turn(self, message: Message) -> Turn:
        """The turn of a message, once it is stored. Raises Problem."""
        # Text that nobody will see need not wake the loop.
        async with aclosing(self.answer(message, (TurnEvent, ErrorEvent))) as events:
            async for event in events:
                if isinstance(event, TurnEvent):
                    return event.turn
        raise AssertionError("an answer ends with its turn or raises")

    async def answer_as_events(self, message: Message) -> AsyncIterator[bytes]:
        """`answer` on the wire; what would be a problem becomes an error event."""
        try:
            async with aclosing(self.answer(message)) as events:
                async for event in events:
                    yield encode(event)
        except Problem as problem:
            yield _sse("error", problem.body.model_dump(), None)


@asynccontextmanager
async def _listening(attach: Callable[[Deliver], Leave], wanted: Wanted = ()) -> AsyncIterator[asyncio.Queue[Item]]:
    """A queue that is fed by whatever `attach` attaches to, with what is `wanted` or all of it; None in it means that
    the reader fell too far behind."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Item] = asyncio.Queue()

    def put(event: Event) -> None:
        if queue.qsize() < BACKLOG:
            queue.put_nowait(event)
        elif queue.qsize() == BACKLOG:
            queue.put_nowait(None)

    def deliver(event: Event) -> None:
        # The desk may still finish an answer while the loop is already gone; then nobody is left to tell.
        if (not wanted or isinstance(event, wanted)) and not loop.is_closed():
            loop.call_soon_threadsafe(put, event)

    leave = await to_thread.run_sync(attach, deliver)
    try:
        yield queue
    finally:
        leave()


def encode(event: Event) -> bytes:
    """The wire form of an event."""
    match event:
        case TokenEvent(message_id=message_id, text=text, restart=restart):
            return _sse(
                "token", {"message_id": message_id, "text": text} | ({"restart": True} if restart else {}), event.id
            )
        case TurnEvent(turn=turn):
            return _sse("turn", turn_body(turn).model_dump(), event.id)
        case StatusEvent(status=status, name=name):
            return _sse("status", {"status": status} | ({"name": name} if name else {}), event.id)
        case AgentEvent(message=message):
            return _sse("agent_message", agent_body(message).model_dump(mode="json"), event.id)
        case ErrorEvent(message_id=message_id):
            return _sse("error", {"message_id": message_id} | not_stored().body.model_dump(), event.id)
        case _:
            assert_never(event)


def _sse(name: str, data: dict[str, object], number: int | None) -> bytes:
    # In ASCII, because many clients end lines at characters like U+2028 that the standard leaves alone.
    identity = f"id: {number}\r\n" if number is not None else ""
    return f"{identity}event: {name}\r\ndata: {json.dumps(data)}\r\n\r\n".encode("ascii")


def respond(stream: AsyncIterator[bytes]) -> Response:
    """A stream as a response that proxies pass on at once and that notices when its client is gone."""
    from sse_starlette import EventSourceResponse  # brings uvicorn with it, which only a running service needs

    return EventSourceResponse(
        stream,
        headers={"Cache-Control": "no-cache, no-transform"},
        ping=PING_SECONDS,
        send_timeout=DEAD_AFTER_SECONDS,
    )
