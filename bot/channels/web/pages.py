"""The pages a customer sees: the chat, and the articles that citations open.

Owns the public routes, which need no token. Everything they show is rendered here or in `articles`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from bot.channels.web.articles import render
from bot.channels.web.door import Storefront as Storefront  # part of what callers of the pages meet
from bot.channels.web.door import TheDoor
from bot.channels.web.problems import Problem

FOLDER = Path(__file__).parent / "page"
ASSETS: Mapping[str, str] = {
    "chat.css": "text/css; charset=utf-8",
    "chat.js": "text/javascript; charset=utf-8",
    "message.js": "text/javascript; charset=utf-8",
    "stream.js": "text/javascript; charset=utf-8",
    "words.js": "text/javascript; charset=utf-8",
    "article.css": "text/css; charset=utf-8",
    "mark.svg": "image/svg+xml",
}
FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    kind: str
    version: str


def load_assets() -> dict[str, Asset]:
    """The files of the page; their address carries a hash of the content, so browsers keep them for ever."""
    contents = {name: (FOLDER / name).read_bytes() for name in ASSETS}
    version = hashlib.sha256(b"".join(contents[name] for name in sorted(contents))).hexdigest()[:12]
    return {name: Asset(content, ASSETS[name], version) for name, content in contents.items()}


def create_pages(storefront: Storefront) -> APIRouter:
    """The chat page, the articles and the files they need."""
    from jinja2 import Environment, FileSystemLoader

    router = APIRouter(include_in_schema=False)
    templates = Environment(loader=FileSystemLoader(FOLDER), autoescape=True)
    assets = load_assets()
    version = next(iter(assets.values())).version
    chat = templates.get_template("chat.html").render(
        company=storefront.company,
        starters=json.dumps({k: list(v) for k, v in storefront.starters.items()}, ensure_ascii=False),
        version=version,
    )
    article = templates.get_template("article.html")

    @router.get("/")
    def chat_page() -> HTMLResponse:
        return HTMLResponse(chat, headers={"Cache-Control": "no-cache"})

    @router.get("/articles/{source:path}")
    def article_page(door: TheDoor, source: str) -> HTMLResponse:
        document = door.articles.document(source)
        if document is None or document.audience != "public":
            raise Problem(404, "Not found", "There is no such article; it may have been renamed or removed.")
        shown = render(document, door.articles.passages_of(source))
        html = article.render(company=storefront.company, article=shown, version=version)
        return HTMLResponse(html, headers={"Cache-Control": "no-cache"})

    @router.get("/assets/{version}/{name}")
    def asset(version: str, name: str) -> Response:
        found = assets.get(name)
        if found is None:
            raise Problem(404, "Not found", "There is no such file.")
        keep = FOREVER if version == found.version else "no-cache"
        return Response(found.content, media_type=found.kind, headers={"Cache-Control": keep})

    return router
