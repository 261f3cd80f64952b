"""The files of the chat widget, for the pages of companies: the loader `/widget.js` and the app it fetches when wanted.

Owns their addresses and headers. The files are built from `widget/src` and committed in `widget/dist`. They are public
and the same for everybody, so any origin may load them; what a page may do with them is decided by the API.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from bot.channels.web.problems import Problem

FOLDER = Path(__file__).parent / "widget" / "dist"
LOADER = "widget.js"
PLACEHOLDER = b"__FRONTDESK_VERSION__"
SCRIPT = "text/javascript; charset=utf-8"
FIVE_MINUTES = "public, max-age=300"
FOREVER = "public, max-age=31536000, immutable"
PUBLIC = {
    "Cross-Origin-Resource-Policy": "cross-origin",
    # a module of another origin is only run where this allows it; sent without credentials it tells nothing to anybody
    "Access-Control-Allow-Origin": "*",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True)
class WidgetFiles:
    """The loader knows `version`, a hash over `modules`: a new build has a new address, so browsers keep it."""

    loader: bytes
    modules: dict[str, bytes]
    """By file name."""
    version: str


def load_widget(folder: Path = FOLDER) -> WidgetFiles:
    """The built files. Raises FileNotFoundError where the widget was not built."""
    modules = {path.name: path.read_bytes() for path in sorted(folder.glob("*.js")) if path.name != LOADER}
    loader = (folder / LOADER).read_bytes()
    if "app.js" not in modules or PLACEHOLDER not in loader:
        raise FileNotFoundError(f"{folder} does not hold the whole widget; build it: make widget")
    digest = hashlib.sha256(b"\0".join(name.encode() + b"\0" + modules[name] for name in modules)).hexdigest()
    return WidgetFiles(loader.replace(PLACEHOLDER, digest[:12].encode()), modules, digest[:12])


def create_widget_files() -> APIRouter:
    """`/widget.js`, and `/widget/<hash>/<file>` for what it fetches."""
    router = APIRouter(include_in_schema=False)
    files = load_widget()
    small = {content: gzip.compress(content, 9, mtime=0) for content in (files.loader, *files.modules.values())}

    def script(request: Request, content: bytes, keep: str) -> Response:
        headers = PUBLIC | {"Cache-Control": keep}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(small[content], media_type=SCRIPT, headers=headers | {"Content-Encoding": "gzip"})
        return Response(content, media_type=SCRIPT, headers=headers)

    @router.get("/widget.js")
    def loader(request: Request) -> Response:
        return script(request, files.loader, FIVE_MINUTES)

    @router.get("/widget/{version}/{name}")
    def module(request: Request, version: str, name: str) -> Response:
        found = files.modules.get(name)
        if found is None:
            raise Problem(404, "Not found", "There is no such file.")
        # a page that still has the loader of an older version gets today's file, but only for today
        return script(request, found, FOREVER if version == files.version else "no-cache")

    return router
