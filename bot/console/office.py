"""What the console works with besides the door: its public address and the count of tries.

Made once by the application and handed to every route that needs it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from bot.console.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Office:
    """`address` is how customers' browsers reach the service; empty: as the lead's does."""

    address: str = ""
    throttle: Throttle = field(default_factory=Throttle)


def _office(request: Request) -> Office:
    office = request.app.state.office
    assert isinstance(office, Office)
    return office


TheOffice = Annotated[Office, Depends(_office)]
