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
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
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

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.close()


class Page(asyncio.Protocol):
    """An open stream: notes when it began, and of each message when the first of its events and its turn came."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._tail = b""
        self._waiting_for_first = False
        self.began: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.first = 0.0
        self.turn: asyncio.Future[None] | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self.began.done():
            if data.startswith(b"HTTP/1.1 200"):
                self.began.set_result(now)
            else:
                self.began.set_exception(ConnectionError(f"no stream: {data[9:12].decode('ascii', 'replace')}"))
        seen = self._tail + data
        if self._waiting_for_first and b"event:" in seen:  # a ping is no event
            self._waiting_for_first, self.first = False, now
        if self.turn is not None and not self.turn.done() and b"event: turn" in seen:
            self.turn.set_result(None)
        self._tail = seen[-10:]

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        for waiting in (self.began, self.turn):
            if waiting is not None and not waiting.done():
                waiting.set_exception(ConnectionError("a stream was cut"))

    def expect(self) -> asyncio.Future[None]:
        """Done when the next turn has come; `first` is then when its first event came."""
        self._waiting_for_first, self._tail = True, b""
        self.turn = asyncio.get_running_loop().create_future()
        return self.turn


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

    async def _line(self, before: Line | None = None) -> Line:
        """`before` if it is still open: the service closes one that was idle for a while."""
        if before is not None and not before.closed:
            return before
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
                    except (OSError, TimeoutError) as error:
                        self._errors[str(error) or "timed out"] += 1
                    line = await self._line(line)
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
                line = await self._line(line)
                self._note(await line.ask(self._message(path, token)), due)
            except (OSError, TimeoutError) as error:
                self._errors[str(error) or "timed out"] += 1
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
        loop = asyncio.get_running_loop()
        open_pages: list[tuple[Line, str, str, Page]] = []
        for _ in range(self._plan.people):
            line = await self._line()
            path, token = await self._opened(line)
            request = self._request("GET", f"{path}/events", token, accept="text/event-stream")
            asked = time.perf_counter()
            _, page = await loop.create_connection(lambda request=request: Page(request), self._host, self._port)
            try:
                self.figures.opened.append((await page.began - asked) * 1000)
            except ConnectionError as error:
                self._errors[str(error)] += 1
                continue
            open_pages.append((line, path, token, page))
        until = time.perf_counter() + self._plan.seconds
        every = len(open_pages) / self._plan.rate

        async def customer(place: int, line: Line, path: str, token: str, page: Page) -> None:
            await asyncio.sleep(place / self._plan.rate)
            while (sent := time.perf_counter()) < until:
                turn = page.expect()
                try:
                    line = await self._line(line)
                    answer = await line.ask(self._message(path, token, wait=False))
                    self._note(answer, sent)
                    if answer.status == 202:
                        async with asyncio.timeout(PATIENCE):
                            await turn
                        self.figures.first.append((page.first - sent) * 1000)
                except (OSError, TimeoutError) as error:
                    self._errors[str(error) or "timed out"] += 1
                    return
                await asyncio.sleep(max(0.0, sent + every - time.perf_counter()))

        await asyncio.gather(*(customer(place, *each) for place, each in enumerate(open_pages)))
        self._errors["a stream was cut"] += sum(page.closed for *_, page in open_pages)
        self._errors = +self._errors  # without what did not happen


def main() -> None:
    url, plan = sys.argv[1], json.loads(sys.argv[2])
    gc.freeze()
    caller = Caller(url, Plan(**{**plan, "texts": tuple(plan.get("texts", Plan.texts))}))
    print(json.dumps(asdict(asyncio.run(caller.run()))))


if __name__ == "__main__":
    main()
