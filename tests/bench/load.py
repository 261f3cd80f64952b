"""Load on a running service, from a process of its own: customers who wait for each answer, arrivals that wait for
nobody, and customers who listen to an open stream.

`python -m tests.bench.load URL PLAN` reads a plan (JSON) and prints one object of figures. Everything is bounded: by
the plan's seconds, by its number of customers, and by the connections that an arrival may find. Loopback only. HTTP is
written and read by hand, because a client library would take more of the two cores than the service.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

API = "/api/v1"
PATIENCE = 60.0
"""Seconds after which an answer counts as lost."""
MESSAGES_EACH = 10
"""A customer says so much in one conversation, then the next one begins."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`closed`: `people` who wait for each answer. `open`: `rate` messages a second, whatever comes back; `people` is
    then the most connections. `streams`: `people` who keep a stream open, `rate` messages a second among them."""

    kind: str
    seconds: float
    people: int
    rate: float = 0.0
    warm: float = 0.0
    """Seconds at the beginning that are not counted."""
    texts: tuple[str, ...] = ("Where is my order?",)


@dataclass(slots=True)
class Figures:
    """What came back; times in milliseconds. `errors` counts what is neither an answer nor a refusal."""

    seconds: float = 0.0
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)
    """From asking for a stream to its first byte."""
    first: list[float] = field(default_factory=list)
    """From sending a message to the first byte of its reply on the open stream."""
    statuses: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    late: float = 0.0
    """The latest that an arrival was sent, milliseconds after its time: what the generator could not keep up with."""
    unsent: int = 0
    """Arrivals that found every connection taken."""
    without_retry_after: int = 0


@dataclass(slots=True)
class Answer:
    status: int
    head: bytes
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        return dict(json.loads(self.body))


class Line(asyncio.Protocol):
    """One connection that asks one thing at a time and stays open between."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._came = bytearray()
        self.on_chunk: asyncio.Queue[tuple[float, bytes]] | None = None
        """Where what comes is put at once, for a stream that has no end."""
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self.on_chunk is not None:
            self.on_chunk.put_nowait((time.perf_counter(), data))
            return
        self._came += data
        end = self._came.find(b"\r\n\r\n")
        if end < 0 or self._waiting is None or self._waiting.done():
            return
        head = bytes(self._came[:end])
        length = _length(head)
        if length is None:
            self._waiting.set_exception(ConnectionError("an answer without Content-Length"))
        elif len(self._came) >= end + 4 + length:
            body = bytes(self._came[end + 4 : end + 4 + length])
            self._came.clear()
            self._waiting.set_result(Answer(int(head[9:12]), head.lower(), body))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError(f"the connection was lost ({type(error).__name__})"))
        if self.on_chunk is not None:
            self.on_chunk.put_nowait((time.perf_counter(), b""))

    async def ask(self, request: bytes) -> Answer:
        """Raises ConnectionError, TimeoutError."""
        if self.closed or self._transport is None:
            raise ConnectionError("the connection is closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(PATIENCE):
            answer = await self._waiting
        if b"connection: close" in answer.head:
            self.close()
        return answer

    def stream(self, request: bytes) -> asyncio.Queue[tuple[float, bytes]]:
        """What comes from now on, each piece with its time; an empty one is the end."""
        assert self._transport is not None
        self.on_chunk = asyncio.Queue()
        self._transport.write(request)
        return self.on_chunk

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.close()


def _length(head: bytes) -> int | None:
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    return None


class Caller:
    """Customers of one service. Each has an address of its own, as a trusted proxy would tell it."""

    def __init__(self, url: str, plan: Plan) -> None:
        place = urlsplit(url)
        assert place.hostname in ("127.0.0.1", "localhost", "::1"), "load is for loopback only"
        self._host, self._port = place.hostname, place.port or 80
        self._plan = plan
        self._texts = itertools.cycle(plan.texts)
        self._number = itertools.count(1)
        self.figures = Figures()
        self._statuses: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._counting = plan.warm == 0

    async def run(self) -> Figures:
        began = time.perf_counter()
        asyncio.get_running_loop().call_later(self._plan.warm, self._count)
        until = began + self._plan.warm + self._plan.seconds
        await {"closed": self._closed, "open": self._open, "streams": self._streams}[self._plan.kind](until)
        self.figures.seconds = min(time.perf_counter(), until) - began - self._plan.warm
        self.figures.statuses, self.figures.errors = dict(self._statuses), dict(self._errors)
        return self.figures

    def _count(self) -> None:
        self._counting = True

    # -- one customer -----------------------------------------------------------------------------------------------

    async def _line(self) -> Line:
        _, line = await asyncio.get_running_loop().create_connection(Line, self._host, self._port)
        return line

    def _request(self, method: str, path: str, token: str = "", body: object = None, accept: str = "*/*") -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {API}{path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nAccept: {accept}\r\n"
        if token:
            head += f"Authorization: Bearer {token}\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        number = hash(token) & 0xFFFFFF
        head += f"X-Forwarded-For: 10.{number >> 16}.{number >> 8 & 255}.{number & 255}\r\n\r\n"
        return head.encode() + content

    async def _opened(self, line: Line) -> tuple[str, str]:
        """A new conversation: its path and its token. Waits while the service is too busy for one."""
        while True:
            answer = await line.ask(self._request("POST", "/conversations", body={}))
            if answer.status == 201:
                said = answer.json
                return f"/conversations/{said['conversation_id']}", str(said["token"])
            if answer.status not in (429, 503):
                raise ConnectionError(f"no conversation: {answer.status}")
            await asyncio.sleep(0.5)

    def _message(self, path: str, token: str, wait: bool = True) -> bytes:
        body = {"id": f"m-{next(self._number)}", "text": next(self._texts)}
        return self._request("POST", f"{path}/messages{'?wait=true' if wait else ''}", token, body)

    def _note(self, answer: Answer, began: float) -> None:
        if not self._counting:
            return
        took = (time.perf_counter() - began) * 1000
        self._statuses[str(answer.status)] += 1
        if answer.status in (200, 202):
            self.figures.answered.append(took)
        elif answer.status in (429, 503):
            self.figures.refused.append(took)
            self.figures.without_retry_after += b"retry-after:" not in answer.head
        else:
            self._errors[f"status {answer.status}"] += 1

    # -- the three kinds --------------------------------------------------------------------------------------------

    async def _closed(self, until: float) -> None:
        async def customer() -> None:
            line = await self._line()
            while time.perf_counter() < until:
                path, token = await self._opened(line)
                for _ in range(MESSAGES_EACH):
                    began = time.perf_counter()
                    if began >= until:
                        break
                    try:
                        self._note(await line.ask(self._message(path, token)), began)
                    except (ConnectionError, TimeoutError) as error:
                        self._errors[str(error) or "timed out"] += 1
                        line = await self._line()
            line.close()

        await asyncio.gather(*(customer() for _ in range(self._plan.people)))

    async def _open(self, until: float) -> None:
        """Arrivals at even distances; each takes a connection with a conversation that is free, and is counted from
        its time, not from when it was sent."""
        free: deque[tuple[Line, str, str]] = deque()
        for _ in range(self._plan.people):
            line = await self._line()
            free.append((line, *await self._opened(line)))
        loop, began = asyncio.get_running_loop(), time.perf_counter()
        until += began - (until - self._plan.seconds - self._plan.warm)  # the time it took to open does not count
        tasks: set[asyncio.Task[None]] = set()

        async def arrive(due: float, line: Line, path: str, token: str) -> None:
            try:
                self._note(await line.ask(self._message(path, token)), due)
            except (ConnectionError, TimeoutError) as error:
                self._errors[str(error) or "timed out"] += 1
            if line.closed:
                line = await self._line()
            free.append((line, path, token))

        for number in itertools.count():
            due = began + number / self._plan.rate
            if due >= until:
                break
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            elif number % 20 == 0:
                await asyncio.sleep(0)
            self.figures.late = max(self.figures.late, (time.perf_counter() - due) * 1000)
            if free:
                task = loop.create_task(arrive(due, *free.popleft()))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            elif self._counting:
                self.figures.unsent += 1
        await asyncio.gather(*tasks)

    async def _streams(self, until: float) -> None:
        listening: list[tuple[Line, str, str, asyncio.Queue[tuple[float, bytes]]]] = []
        for _ in range(self._plan.people):
            speaker, listener = await self._line(), await self._line()
            path, token = await self._opened(speaker)
            began = time.perf_counter()
            queue = listener.stream(self._request("GET", f"{path}/events", token, accept="text/event-stream"))
            at, piece = await asyncio.wait_for(queue.get(), PATIENCE)
            if not piece.startswith(b"HTTP/1.1 200"):
                self._errors[f"no stream: {piece[:12]!r}"] += 1
                continue
            self.figures.opened.append((at - began) * 1000)
            listening.append((speaker, path, token, queue))
        began = time.perf_counter()
        until = began + self._plan.seconds
        every = len(listening) / self._plan.rate

        async def customer(
            place: int, line: Line, path: str, token: str, queue: asyncio.Queue[tuple[float, bytes]]
        ) -> None:
            await asyncio.sleep(place / self._plan.rate)
            while time.perf_counter() < until:
                while not queue.empty():
                    queue.get_nowait()
                sent = time.perf_counter()
                answer = await line.ask(self._message(path, token, wait=False))
                self._note(answer, sent)
                if answer.status == 202:
                    for at, piece in await _until(queue, b"event:"):
                        if b"event:" in piece:
                            self.figures.first.append((at - sent) * 1000)
                            break
                    await _until(queue, b"event: turn")
                await asyncio.sleep(max(0.0, sent + every - time.perf_counter()))

        await asyncio.gather(*(customer(n, *each) for n, each in enumerate(listening)))


async def _until(queue: asyncio.Queue[tuple[float, bytes]], sign: bytes) -> Iterator[tuple[float, bytes]]:
    """Pieces up to the one that holds `sign`, which stays in the queue for whoever looks for the next one."""
    pieces = []
    while True:
        at, piece = await asyncio.wait_for(queue.get(), PATIENCE)
        if not piece:
            raise ConnectionError("the stream was cut")
        pieces.append((at, piece))
        if sign in piece:
            queue._queue.appendleft((at, piece))  # type: ignore[attr-defined]
            return iter(pieces)


def main() -> None:
    url, plan = sys.argv[1], json.loads(sys.argv[2])
    gc.freeze()
    caller = Caller(url, Plan(**{**plan, "texts": tuple(plan.get("texts", Plan.texts))}))
    print(json.dumps(asdict(asyncio.run(caller.run()))))


if __name__ == "__main__":
    main()
