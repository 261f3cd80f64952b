"""Notifications that did not arrive: what was given up, what is still tried, and trying it again.

Owns the routes under /console/deliveries.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from bot.channels.web.door import TheDoor
from bot.console.access import Who
from bot.console.pages import go, page
from bot.storage.outbox import try_again, undelivered

router = APIRouter(prefix="/console", include_in_schema=False)


@router.get("/deliveries")
def deliveries(door: TheDoor, who: Who) -> Response:
    return page("deliveries.html", who, {"letters": undelivered(door.database)})


@router.post("/deliveries/{notice_id}/again")
def again(door: TheDoor, who: Who, notice_id: str) -> Response:
    try_again(door.database, notice_id)
    return go("/console/deliveries")
