"""What goes wrong at the web door, told as problem+json (RFC 9457): what happened and how to cure it.

Owns every error body. Never repeats what was sent: input may be hostile, private or not even encodable.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from bot import FrontdeskError
from bot.channels.web.logbook import place_of, write
from bot.lanes import Overloaded
from bot.storage.conversations import UnknownConversation
from bot.storage.database import RecordUnavailable
from bot.storage.files import FileRefused
from bot.storage.turns import UnknownTurn

MEDIA_TYPE = "application/problem+json"
RETRY = {"Retry-After": "1"}


class ProblemBody(BaseModel):
    """The body of every error: `title` names it, `detail` says what to do about it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What /openapi.json says about these statuses. As plain parts: each model named at a route costs the start of the
    service a millisecond, and every route names ten of them."""
    schema = {"$ref": "#/components/schemas/ProblemBody"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


class Problem(Exception):
    """Ends a request with this problem."""

    def __init__(self, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})

    @property
    def body(self) -> ProblemBody:
        return ProblemBody(title=self.title, status=self.status, detail=self.detail)

    def response(self) -> Response:
        return JSONResponse(
            self.body.model_dump(), status_code=self.status, headers=self.headers, media_type=MEDIA_TYPE
        )


def not_found() -> Problem:
    """One answer for an unknown id, a foreign id and a malformed one: nobody learns which ids exist."""
    return Problem(404, "Not found", "There is nothing here for this token; start a new conversation.")


def no_such_page() -> Problem:
    """What an address that does not exist answers."""
    return Problem(404, HTTPStatus.NOT_FOUND.phrase, CURES[404])


def not_signed_in() -> Problem:
    return Problem(
        401,
        "No token",
        "Send the conversation's token as 'Authorization: Bearer TOKEN'; POST /api/v1/conversations gives one.",
        {"WWW-Authenticate": 'Bearer realm="conversation"'},
    )


def not_stored() -> Problem:
    return Problem(
        503, "Not stored", "The message could not be stored. Send it again with the same id; it counts once.", RETRY
    )


def busy(retry_after: float) -> Problem:
    return Problem(
        503,
        "Busy",
        "Too many messages are waiting for an answer. Send this one again, with the same id, in a second.",
        {"Retry-After": str(math.ceil(retry_after))},
    )


def too_large() -> Problem:
    return Problem(413, "Too large", "The body is larger than this service accepts; a message has 4,000 characters.")


CURES: Mapping[int, str] = {
    408: "The body did not arrive in time; send it again.",
    404: "There is no such page; the addresses are listed in /openapi.json.",
    405: "This address does not take that method; /openapi.json lists those it takes.",
}


def answer_problems(application: FastAPI) -> None:
    """Make every error of the application a problem+json; a fault of ours is logged with an incident number."""
    schema = application.openapi

    def with_problems() -> dict[str, Any]:
        told = schema()
        told["components"]["schemas"]["ProblemBody"] = ProblemBody.model_json_schema()
        return told

    application.openapi = with_problems  # type: ignore[method-assign]

    @application.exception_handler(Problem)
    def _problem(request: Request, error: Problem) -> Response:
        return error.response()

    @application.exception_handler(RequestValidationError)
    def _validation(request: Request, error: RequestValidationError) -> Response:
        return _invalid(error.errors()).response()

    @application.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:
            return unreadable_body().response()
        if error.status_code == 413:
            return too_large().response()
        title = HTTPStatus(error.status_code).phrase
        detail = CURES.get(error.status_code, f"{title}.")
        headers = {**(error.headers or {}), **({"Connection": "close"} if error.status_code == 408 else {})}
        return Problem(error.status_code, title, detail, headers).response()

    @application.exception_handler(FrontdeskError)
    def _frontdesk(request: Request, error: FrontdeskError) -> Response:
        return problem_of(error).response()

    @application.exception_handler(Exception)
    def _fault(request: Request, error: Exception) -> Response:
        return problem_of(error).response()


def problem_of(error: BaseException) -> Problem:
    """What a client is told about an exception."""
    match error:
        case Problem():
            return error
        case UnknownConversation() | UnknownTurn():
            return not_found()
        case Overloaded():
            return busy(error.retry_after)
        case RecordUnavailable():
            return not_stored()
        case FileRefused():
            return Problem(415, "File not taken", f"{error}.")
        case _:
            return fault(error)


def fault(error: BaseException) -> Problem:
    """A fault of ours. The log gets where it happened, not the words of the exception: they may quote a customer."""
    incident = secrets.token_hex(4)
    write("fault", level=logging.ERROR, incident=incident, kind=type(error).__name__, frames=place_of(error))
    return Problem(
        500,
        "Something went wrong on our side",
        f"It was recorded as incident {incident}. Try again; if it stays, tell the people who run this service.",
    )


def unreadable_body() -> Problem:
    return Problem(400, "The body cannot be read", "Send one JSON object, encoded as UTF-8.")


def _invalid(errors: Sequence[Mapping[str, object]]) -> Problem:
    if any(e["type"] == "json_invalid" for e in errors):
        return unreadable_body()
    return Problem(422, "The request does not fit", "; ".join(_sentence(e) for e in errors[:5]))


def _sentence(error: Mapping[str, object]) -> str:
    """Where and what, in our words or pydantic's; its messages for the types we use never quote the input."""
    location = error["loc"]
    parts = [str(p) for p in location if str(p).isidentifier()] if isinstance(location, tuple) else []
    where = ".".join(parts[1:]) or "the body"
    kind = str(error["type"])
    if kind == "missing":
        return f"{where}: is missing; send it"
    if kind == "extra_forbidden":
        # the name of an unknown field is the sender's own text: say where to look instead of repeating it
        return "a field that this address does not know; /openapi.json lists those it does"
    if kind == "string_unicode":
        return f"{where}: holds half of a surrogate pair; send well-formed Unicode"
    return f"{where}: {str(error['msg']).removeprefix('Value error, ')}"
