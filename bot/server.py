"""Puts the channels into one web application and runs it until it is told to stop.

Owns the order of middleware, start and drain. Knows no model and no database: the desk and the articles come in as
arguments, so that importing this module loads neither torch nor an index.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from types import FrameType

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from bot import FrontdeskError
from bot.channels.web.api import api
from bot.channels.web.door import Articles, Door
from bot.channels.web.guards import BodyLimit, Guard, RequestLog
from bot.channels.web.health import create_metrics, health, watch
from bot.channels.web.logbook import configure_logging
from bot.channels.web.overload import Overload
from bot.channels.web.pages import Storefront, create_pages
from bot.channels.web.problems import answer_problems
from bot.meters import Meters
from bot.serving import Desk
from bot.storage.database import Database

LARGEST_BODY = 64 * 1024
"""Bytes. The longest message is 4,000 characters, at most 12 bytes each once JSON escapes them."""

SILENT: TelemetryConfig = {
    # a provider that somebody configures in the environment must not receive what customers write
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}

DRAIN_SECONDS = 3.0
"""How long a stopping service still takes requests, closing each connection, so that none is cut at a bad moment."""

QUIET_SECONDS = 0.4
MOST_FILES = 16_384
KEPT_ALIVE_SECONDS = 75
"""Longer than a proxy keeps a connection (nginx 60): the side that closes first never cuts a request under way."""

LAST_ANSWERS_SECONDS = 20.0


def create_application(
    desk: Desk,
    database: Database,
    articles: Articles,
    storefront: Storefront,
    *,
    hosts: Collection[str] = (),
    shortcomings: Callable[[], Sequence[str]] = tuple,
    meters: Meters | None = None,
    metrics_token: str = "",
) -> FastAPI:
    """The whole web application. It closes neither the desk nor the database.

    `hosts`: further names it may be reached by; `shortcomings`: why answers are poorer than they should be just now.
    `meters` count what happens here, shown to whoever has `metrics_token`.
    """
    door = Door(desk, database, articles, shortcomings)

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        yield
        door.close()

    application = FastAPI(
        title="Frontdesk",
        version="1",
        docs_url=None,  # the bundled pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        telemetry=SILENT,
        redirect_slashes=False,
    )
    application.state.door = door
    application.state.overload = Overload(
        application, desk, lambda: door.draining, meters.refused if meters is not None else None
    )
    application.include_router(api)
    application.include_router(health)
    application.include_router(create_pages(storefront))
    if meters is not None:
        watch(meters, door)
        application.include_router(create_metrics(meters, metrics_token))
    answer_problems(application)
    # The last one added is the first one passed.
    application.add_middleware(BodyLimit, bytes_allowed=LARGEST_BODY)
    application.add_middleware(Guard, hosts=hosts, draining=lambda: door.draining)
    application.add_middleware(RequestLog, told=meters.request if meters is not None else None)
    return application


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises FrontdeskError with the cure when it cannot be had."""
    place = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise FrontdeskError(f"{place}: {error.strerror or error}; set `host` to an address of this machine") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        cure = {
            errno.EADDRINUSE: "the port is taken; stop the other program or choose another `port`",
            errno.EACCES: "this user may not use that port; choose a `port` above 1023",
            errno.EADDRNOTAVAIL: "no such address on this machine; choose another `host`",
        }.get(error.errno or 0, f"{error.strerror}; choose another `host` or `port`")
        raise FrontdeskError(f"{place}: {cure}") from None
    return listener


class Service:
    """The application on a socket. `run` returns when the service was asked to stop and has drained."""

    def __init__(self, application: FastAPI, listener: socket.socket, drain_seconds: float = DRAIN_SECONDS) -> None:
        self._door: Door = application.state.door
        self._listener = listener
        self._drain_seconds = drain_seconds
        import uvicorn  # costs a tenth of a second that only a running service needs

        self._server = uvicorn.Server(
            uvicorn.Config(
                application.state.overload,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEPT_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(LAST_ANSWERS_SECONDS),
                lifespan="on",
            )
        )
        # uvicorn stops at once on a signal, which cuts connections that were about to send; we drain first.
        self._server.handle_exit = self._on_signal

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()[:2]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"

    @property
    def started(self) -> bool:
        return bool(self._server.started)

    @property
    def stopping(self) -> bool:
        """Drained: no new connection is taken, what is under way is finished."""
        return bool(self._server.should_exit)

    def run(self) -> None:
        configure_logging()
        _allow_many_connections()
        asyncio.run(self._run())

    def stop(self) -> None:
        """Begin to drain, from any thread. A second call does not wait any longer."""
        if self._door.draining:
            self._server.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._begin_drain)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._listener])

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop()

    def _begin_drain(self) -> None:
        self._door.close()
        self._drain = self._loop.create_task(self._wait_and_exit())

    async def _wait_and_exit(self) -> None:
        """Wait for the time to drain, or until it has been quiet for a while: an idle service stops at once."""
        busy_until = self._loop.time() + self._drain_seconds
        quiet_since = self._loop.time()
        while self._loop.time() < min(busy_until, quiet_since + QUIET_SECONDS):
            if self._server.server_state.connections:
                quiet_since = self._loop.time()
            await asyncio.sleep(0.02)
        self._server.should_exit = True


def _allow_many_connections() -> None:
    """Usual limits are 1,024 files, and each open page is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def serve(application: FastAPI, host: str, port: int, on_listening: Callable[[str], None] | None = None) -> None:
    """Listen, tell `on_listening` the address, and run until SIGINT or SIGTERM."""
    service = Service(application, listen(host, port))
    if on_listening is not None:
        on_listening(service.url)
    service.run()
