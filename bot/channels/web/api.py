"""The HTTP API of the chat: requests become calls of the desk and the record, what comes back becomes JSON.

Owns the routes under /api/v1. Translation only: what to say is decided elsewhere, and who may see it in `access`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from bot.channels.web.access import OwnConversation, OwnTurn
from bot.channels.web.bodies import (
    Accepted,
    Click,
    ConversationBody,
    Feedback,
    NewConversation,
    NewMessage,
    Opened,
    Rating,
    StatusBody,
    TurnBody,
    turn_body,
)
from bot.channels.web.door import TheDoor
from bot.channels.web.events import respond
from bot.channels.web.problems import Problem, ProblemBody
from bot.conversation.messages import Message, Turn
from bot.storage.conversations import Conversation, find_conversation, rate, start_conversation
from bot.storage.feedback import give_feedback, record_click
from bot.storage.turns import entries

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ProblemBody} for status in (400, 401, 404, 413, 415, 422, 503)
}
CUSTOMER = "customer"


async def json_only(request: Request) -> None:
    """A body is JSON and says so. Anything a foreign page can send without asking first is refused."""
    has_body = "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and kind != "application/json":
        raise Problem(415, "Not JSON", "Send the body with 'Content-Type: application/json'.")


api = APIRouter(prefix="/api/v1", dependencies=[Depends(json_only)], responses=PROBLEMS)


@api.post("/conversations", status_code=201)
async def open_conversation(door: TheDoor, body: NewConversation | None = None) -> Opened:
    """Open a conversation; with a `message`, ask its first question too and get the turn with it."""
    asked = body or NewConversation()
    started = await run_in_threadpool(start_conversation, door.database, channel=asked.channel, site=asked.site)
    opened = Opened(conversation_id=started.id, token=started.token)
    if asked.message is not None:
        conversation = await run_in_threadpool(find_conversation, door.database, started.id)
        opened.turn = turn_body(await door.streams.turn(_said(conversation, asked.message)))
    return opened


@api.post(
    "/conversations/{conversation_id}/messages",
    response_model=TurnBody,
    responses={
        200: {"description": "The turn; with `Accept: text/event-stream` the events it causes, ending with it."},
        202: {"model": Accepted, "description": "Stored for good; the answer comes as events."},
    },
)
async def send_message(
    door: TheDoor, conversation: OwnConversation, body: NewMessage, request: Request, wait: bool = False
) -> Response:
    """Send a message. 202 once it is stored; with `?wait=true` 200 and its turn; or streamed as events."""
    message = _said(conversation, body)
    if "text/event-stream" in request.headers.get("accept", ""):
        return respond(door.streams.answer_as_events(message))
    if wait:
        return JSONResponse(turn_body(await door.streams.turn(message)).model_dump())
    await run_in_threadpool(door.desk.accept, message)
    return JSONResponse(Accepted(message_id=message.id).model_dump(), status_code=202)


@api.get("/conversations/{conversation_id}")
def read_conversation(door: TheDoor, conversation: OwnConversation) -> ConversationBody:
    """Everything said so far, and where its events go on."""
    return ConversationBody.of(conversation.status, entries(door.database, conversation.id))


@api.get("/conversations/{conversation_id}/events", response_class=Response)
async def follow_events(
    door: TheDoor, conversation: OwnConversation, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Server-sent events: token, turn, status, agent_message, error. `Last-Event-ID` resumes after that one."""
    door.streams.admit()
    return respond(door.streams.follow(conversation.id, event_number(last_event_id)))


@api.post("/turns/{turn_id}/feedback", status_code=204)
def judge_turn(door: TheDoor, turn: OwnTurn, body: Feedback) -> None:
    """Thumbs up or down. The last verdict counts."""
    give_feedback(
        door.database,
        turn.id,
        sender=turn.message.sender,
        verdict=body.verdict,
        reason=body.reason,
        comment=body.comment,
    )


@api.post("/turns/{turn_id}/click", status_code=204)
def note_click(door: TheDoor, turn: OwnTurn, body: Click) -> None:
    """Which suggestion was taken, or which citation was opened: only what this turn offered."""
    if body.suggestion is not None and body.citation is None and body.suggestion in turn.reply.suggestions:
        record_click(door.database, turn.id, "suggestion", body.suggestion)
    elif body.citation is not None and body.suggestion is None and body.citation in _addresses(turn):
        record_click(door.database, turn.id, "citation", body.citation)
    else:
        raise Problem(
            422, "The request does not fit", "give one `suggestion` or the `url` of one `citation`, as the turn has it"
        )


@api.post("/conversations/{conversation_id}/handover")
def ask_for_person(door: TheDoor, conversation: OwnConversation) -> StatusBody:
    """Ask for a person."""
    if conversation.status in ("open", "resolved"):
        door.desk.set_status(conversation.id, "waiting", actor=CUSTOMER)
    return StatusBody(status=find_conversation(door.database, conversation.id).status)


@api.post("/conversations/{conversation_id}/rating", status_code=204)
def rate_conversation(door: TheDoor, conversation: OwnConversation, body: Rating) -> None:
    """One to five stars for the whole conversation. The last rating counts."""
    rate(door.database, conversation.id, stars=body.stars, comment=body.comment)


@api.post("/conversations/{conversation_id}/end")
def end_conversation(door: TheDoor, conversation: OwnConversation) -> StatusBody:
    """Say that the matter is settled. A later message opens it again."""
    door.desk.set_status(conversation.id, "resolved", actor=CUSTOMER)
    return StatusBody(status="resolved")


@api.delete("/conversations/{conversation_id}", status_code=204)
async def forget_conversation(door: TheDoor, conversation: OwnConversation) -> None:
    """Forget this conversation and everything said in it."""
    await run_in_threadpool(door.desk.forget, conversation.id, actor=CUSTOMER)
    door.streams.close(conversation.id)


def event_number(last_event_id: str | None) -> int:
    """The number after which events are wanted; 0, the beginning, when the header is missing."""
    if not last_event_id:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 16):
        raise Problem(400, "Unknown event", "Last-Event-ID is the number of the last event that you received.")
    return int(last_event_id)


def _said(conversation: Conversation, body: NewMessage) -> Message:
    # The time is ours: clients' clocks are wrong.
    return Message(body.id, conversation.id, conversation.sender, conversation.channel, body.text, datetime.now(UTC))


def _addresses(turn: Turn) -> list[str]:
    return [citation.url for citation in turn.reply.citations]
