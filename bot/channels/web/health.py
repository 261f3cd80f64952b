"""What those who run the service may ask of it: does it live, is it ready, and what has it counted.

Owns the health routes, which are public and name no reason, and /metrics, which is not.
"""

from __future__ import annotations

import hmac

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from bot.channels.web.access import BEARER, Authorization
from bot.channels.web.bodies import LiveBody, ReadyBody
from bot.channels.web.door import Door, TheDoor
from bot.channels.web.problems import Problem, no_such_page
from bot.meters import CONTENT_TYPE, Meters

health = APIRouter(prefix="/health")


@health.get("/live")
def live() -> LiveBody:
    """The process runs."""
    return LiveBody()


@health.get("/ready", response_model=ReadyBody, responses={503: {"model": ReadyBody}})
def ready(door: TheDoor) -> JSONResponse:
    """Whether customers are wanted here, and how well they are served."""
    # Why is for `frontdesk doctor` and the log to say: this address is public, and reasons name files.
    door.database.try_again()
    broken = bool(door.database.problem)
    status = "draining" if door.draining else "not_ready" if broken else "ready"
    body = {"status": status, "degraded": broken or bool(door.shortcomings())}
    return JSONResponse(body, status_code=200 if status == "ready" else 503)


def create_metrics(meters: Meters, token: str) -> APIRouter:
    """/metrics for whoever holds the token. Without one in the settings there is no such page, for nobody.

    The address that asks proves nothing: the proxy that ends TLS stands on this machine too, and need not say for whom.
    """
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics")
    def metrics(authorization: Authorization = None) -> Response:
        if not token:
            raise no_such_page()
        shown = BEARER.fullmatch(authorization or "")
        if shown is None or not hmac.compare_digest(shown[1], token):
            raise Problem(
                401,
                "No token",
                "Send the `metrics_token` of the settings as 'Authorization: Bearer TOKEN'.",
                {"WWW-Authenticate": 'Bearer realm="metrics"'},
            )
        return Response(meters.render(), headers={"Content-Type": CONTENT_TYPE})

    return router


def watch(meters: Meters, door: Door) -> None:
    """What the door can see when somebody looks."""
    desk, database = door.desk, door.database
    meters.watch("frontdesk_messages_in_hand", "Messages that are being answered or wait for it.", lambda: desk.in_hand)
    meters.watch("frontdesk_messages_waiting", "Messages that wait for an answer to begin.", lambda: desk.waiting)
    meters.watch("frontdesk_open_streams", "Streams that follow a conversation.", lambda: door.streams.followers)
    meters.watch("frontdesk_writes_waiting", "Writes that wait for the disk.", lambda: database.waiting)
    meters.watch(
        "frontdesk_record_errors",
        "Writes that were refused or failed, by kind.",
        lambda: {(kind,): count for kind, count in database.failures.items()},
        ("kind",),
        "counter",
    )
