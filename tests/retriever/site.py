"""A small site on loopback for tests: pages that change, servers that misbehave, and a record of what was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Handler = Callable[["Asked"], None]


class Asked(BaseHTTPRequestHandler):
    """One request to a `Website`."""

    server: _Server

    def do_GET(self) -> None:
        site = self.server.site
        site.asked.append(self.path)
        site.headers.append({name.lower(): value for name, value in self.headers.items()})
        found = site.pages.get(self.path)
        if callable(found):
            found(self)
        elif found is None:
            self.reply(404, b"not here")
        else:
            body = found.encode() if isinstance(found, str) else found
            tag = f'"{sha256(body).hexdigest()[:12]}"'
            if self.headers.get("If-None-Match") == tag:
                self.reply(304, b"", {"ETag": tag})
            else:
                self.reply(200, body, {"ETag": tag})

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        given = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body)), **(headers or {})}
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    site: Website
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up are what these tests are about


@dataclass
class Website:
    """`pages` maps a path with its query to a body, or to what answers it."""

    pages: dict[str, str | bytes | Handler]
    port: int = 0
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/") -> str:
        return f"http://{self.authority}{path}"


@contextmanager
def website(pages: dict[str, str | bytes | Handler]) -> Iterator[Website]:
    server = _Server(("127.0.0.1", 0), Asked)
    server.site = Website(pages, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def page(text: str, *links: str, head: str = "") -> str:
    listed = "".join(f'<a href="{link}">{number}</a> ' for number, link in enumerate(links))
    body = f"<main><h1>{text}</h1><p>All about {text}.</p>{listed}</main>"
    return f"<html><head><title>{text}</title>{head}</head><body>{body}</body></html>"


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Handler:
    return lambda asked: asked.reply(code, body, headers)
