"""All routes of the console under one prefix, each behind `admit`. Owns what the console is made of."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from bot.console import deliveries, inbox, install, pages, people, replies, sign_in
from bot.console.access import admit

console = APIRouter(dependencies=[Depends(admit)])
for part in (inbox, install, sign_in, pages, people, replies, deliveries):
    console.include_router(part.router)


@console.get("/console", include_in_schema=False)
def start() -> Response:
    return pages.go("/console/inbox")
