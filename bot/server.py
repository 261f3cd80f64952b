"""Puts the channels and the console into one web application and runs it until it is told to stop.

Owns the order of middleware, start and drain. Knows no model and no database: the desk and the articles come in as
arguments, so that importing this module loads neither torch nor an index.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from bot import FrontdeskError
from bot.channels.web.addresses import networks
from bot.channels.web.api import api
from bot.channels.web.door import Articles, Door, Storefront
from bot.channels.web.guards import BodyLimit, Guard, RequestLog
from bot.channels.web.health import create_metrics, health, watch
from bot.channels.web.limits import Allowance, Limits, Turnstile
from bot.channels.web.logbook import configure_logging
from bot.channels.web.overload import Overload
from bot.channels.web.pages import create_pages
from bot.channels.web.problems import answer_problems
from bot.channels.web.uploads import uploads
from bot.channels.web.widget_files import create_widget_files
from bot.console.office import Office
from bot.console.pages import answer_refusals
from bot.console.routes import console
from bot.meters import Meters
from bot.serving import Desk
from bot.storage.database import Database
from bot.storage.files import LARGEST_FILE, Files

LARGEST_BODY = 64 * 1024
"""Bytes. The longest message is 4,000 characters, at most 12 bytes each once JSON escapes them."""

LARGEST_UPLOAD = LARGEST_FILE + 64 * 1024
"""Bytes of a form with one file in it."""

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

SECONDS_FOR_A_HEAD = 15.0
"""How long a connection may stay without a whole request: one that drips its head only holds a place."""

QUIET_SECONDS = 0.4
LAST_WORDS_SECONDS = 1.0
FIRST_INHERITED = 3
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
    files: Path | None = None,
    allowance: Allowance | None = None,
    trusted_proxies: Sequence[str] = (),
    address: str = "",
    meters: Meters | None = None,
    metrics_token: str = "",
) -> FastAPI:
    """The whole web application. It closes neither the desk nor the database.

    `hosts`: further names it may be reached by; `shortcomings`: why answers are poorer than they should be just now;
    `files`: the folder for what customers upload, beside the record when not given; `allowance`: how much anybody may
    ask for; `trusted_proxies`: addresses and ranges whose X-Forwarded-For is believed; `address`: how customers reach
    the service, for the line they paste into their pages. `meters` count what happens here, shown to whoever has
    `metrics_token`.
    """
    limits = Limits(allowance)
    kept = Files(database, files or database.path.with_name("files"))
    door = Door(desk, database, articles, storefront, files=kept, limits=limits, shortcomings=shortcomings)

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
    application.state.office = Office(address)
    application.state.overload = Overload(
        application,
        desk,
        lambda: door.draining,
        meters.refused if meters is not None else None,
        door.sites.allow_somewhere,
    )
    application.include_router(api)
    application.include_router(uploads)
    application.include_router(health)
    application.include_router(create_pages(storefront))
    application.include_router(console)
    application.include_router(create_widget_files())
    if meters is not None:
        watch(meters, door)
        application.include_router(create_metrics(meters, metrics_token))
    answer_problems(application)
    answer_refusals(application)
    # The last one added is the first one passed.
    application.add_middleware(BodyLimit, bytes_allowed=LARGEST_BODY, upload_allowed=LARGEST_UPLOAD)
    application.add_middleware(Turnstile, limits=limits, trusted=networks(trusted_proxies))
    application.add_middleware(Guard, hosts=hosts, draining=lambda: door.draining, sites=door.sites)
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


def inherited() -> socket.socket | None:
    """The listening socket that systemd holds for this service, if it does: then nobody is refused who comes while one
    process ends and the next one starts. See sd_listen_fds(3). Raises FrontdeskError for what is no such socket."""
    mine, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if mine != str(os.getpid()):
        return None
    if count != "1":
        raise FrontdeskError(f"LISTEN_FDS={count!r}: the service takes one socket; give the unit one ListenStream")
    try:
        listener = socket.socket(fileno=FIRST_INHERITED)
        listens = listener.type == socket.SOCK_STREAM and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if listens and listener.family in (socket.AF_INET, socket.AF_INET6):  # a file has neither address nor port
            listener.set_inheritable(False)
            return listener
    except OSError as error:
        raise FrontdeskError(f"the socket of the unit cannot be used ({error.strerror})") from None
    raise FrontdeskError("the socket of the unit takes no connections of TCP; write ListenStream=127.0.0.1:8080, say")


class Service:
    """The application on a socket. `run` returns when the service was asked to stop and has drained."""

    def __init__(self, application: FastAPI, listener: socket.socket, drain_seconds: float = DRAIN_SECONDS) -> None:
        self._door: Door = application.state.door
        self._listener = listener
        self._drain_seconds = drain_seconds
        self.head_seconds = SECONDS_FOR_A_HEAD
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
        sweep = self._loop.create_task(self._close_the_silent())
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            sweep.cancel()

    async def _close_the_silent(self) -> None:
        """Closes connections on which nothing is under way and no whole request came for too long.

        uvicorn ends a connection that is idle after an answer, by its own timer, but waits for ever for a head that
        never ends.
        """
        silent: dict[tuple[Any, Any], float] = {}
        while True:
            now = self._loop.time()
            # With its last request, so that one which asks again and again is never taken for silent.
            idle = {(each, each.cycle) for each in self._server.server_state.connections if _is_idle(each)}
            silent = {each: silent.get(each, now) for each in idle}
            for (connection, _), since in silent.items():
                if now - since > self.head_seconds:
                    connection.transport.close()
            await asyncio.sleep(self.head_seconds / 10)

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
        # Who comes from now on waits in the kernel for the next process, where the socket is kept (`inherited`). Who
        # was let in just now may not have said a word yet, and would be cut off.
        for server in self._server.servers:
            server.close()
        until = self._loop.time() + LAST_WORDS_SECONDS
        await asyncio.sleep(0.1)
        while any(each.cycle is None for each in self._server.server_state.connections) and self._loop.time() < until:
            await asyncio.sleep(0.02)
        self._server.should_exit = True


def _is_idle(connection: Any) -> bool:
    """No request is being answered on this connection of uvicorn, nor does its own timer for a next one run."""
    answered = connection.cycle is None or bool(connection.cycle.response_complete)
    return answered and connection.timeout_keep_alive_task is None


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
