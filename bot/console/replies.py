"""Canned replies: everybody reads them, reviewers and leads keep them.

Owns the routes under /console/replies.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Response

from bot import FrontdeskError
from bot.channels.web.door import Door, TheDoor
from bot.console.access import Who
from bot.console.pages import go, page
from bot.storage.canned import all_canned, drop_canned, keep_canned
from bot.storage.people import Session

Text = Annotated[str, Form(max_length=20_000)]

router = APIRouter(prefix="/console", include_in_schema=False)


@router.get("/replies")
def replies(door: TheDoor, who: Who) -> Response:
    return _page(door, who)


@router.post("/replies")
def keep(door: TheDoor, who: Who, title: Text = "", text: Text = "") -> Response:
    try:
        keep_canned(door.database, title, text)
    except FrontdeskError as error:
        return _page(door, who, title=title, text=text, problem=f"{str(error).capitalize()}.", status=422)
    return go("/console/replies")


@router.post("/replies/{number}/remove")
def remove(door: TheDoor, who: Who, number: int) -> Response:
    drop_canned(door.database, number)
    return go("/console/replies")


def _page(
    door: Door, who: Session, *, title: str = "", text: str = "", problem: str = "", status: int = 200
) -> Response:
    canned = all_canned(door.database)
    return page(
        "replies.html", who, {"canned": canned, "title": title, "text": text, "problem": problem}, status=status
    )
