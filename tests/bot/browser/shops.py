"""Pages of companies, on an origin that is not ours: what a widget finds itself on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PLAIN = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Shop</title></head>
<body><main><h1>A shop</h1><p><a href="/other">Elsewhere</a></p><button id="mine">Buy</button></main>
TAG</body></html>"""


def tag(service: str, extra: str = 'data-site="shop"') -> str:
    return f'<script async src="{service}/widget.js" {extra}></script>'


class Shop:
    """Serves pages by path; each is HTML and the headers it comes with."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[bytes, Mapping[str, str]]] = {}
        shop = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                content, headers = shop.pages.get(self.path.partition("?")[0], (b"", {}))
                self.send_response(200 if content else 404)
                for name, value in {"Content-Type": "text/html; charset=utf-8", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.put("/favicon.ico", " ", {"Content-Type": "image/x-icon"})

    def put(self, path: str, html: str, headers: Mapping[str, str] | None = None) -> str:
        """The address of the page."""
        self.pages[path] = (html.encode(), headers or {})
        return self.url + path

    def run(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def open_shop() -> Iterator[Shop]:
    shop = Shop()
    thread = threading.Thread(target=shop.run, daemon=True)
    thread.start()
    try:
        yield shop
    finally:
        shop.close()
        thread.join()
