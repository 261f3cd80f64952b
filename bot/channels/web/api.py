"""The HTTP API of the chat: requests become calls of the desk and the record, what comes back becomes JSON.

Owns the routes under /api/v1. Translation only: what to say is decided elsewhere, and who may see it in `access`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from bot.channels.web.access import (
    ID,
    Authorization,
    OpenedConversation,
    OwnConversation,
    OwnTurn,
    earlier_conversation,
)
from bot.channels.web.bodies import (
    Accepted,
    Click,
    ConversationBody,
    Feedback,
    ListBody,
    NewConversation,
    NewMessage,
    Opened,
    Rating,
    SiteBody,
    StatusBody,
    TokenBody,
    TurnBody,
    turn_body,
)
from bot.channels.web.door import Door, TheDoor
from bot.channels.web.events import respond
from bot.channels.web.identity import identity_by_hash, identity_by_token
from bot.channels.web.origins import require_origin
from bot.channels.web.problems import Problem, not_found, problem_responses
from bot.conversation.messages import Message, Turn
from bot.storage.conversations import Conversation, StartedConversation, find_conversation, note_seen, rate
from bot.storage.feedback import give_feedback, record_click
from bot.storage.happenings import AgentMessage, told
from bot.storage.sites import DEFAULT, Site, identity_secret, is_open
from bot.storage.turns import entries, last_sequence
from bot.storage.visitors import Identity, conversations_of, open_conversation, renewed_token

PROBLEMS: Final = problem_responses(400, 401, 403, 404, 408, 413, 415, 422, 429, 503)
CUSTOMER = "customer"


async def json_only(request: Request) -> None:
    """A body is JSON and says so. Anything a foreign page can send without asking first is refused."""
    has_body = "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and kind != "application/json":
        raise Problem(415, "Not JSON", "Send the body with 'Content-Type: application/json'.")


api = APIRouter(prefix="/api/v1", dependencies=[Depends(json_only)], responses=PROBLEMS)


@api.get("/sites/{site}")
def read_site(door: TheDoor, site: str, request: Request) -> SiteBody:
    """What the widget shows on this site; `default` is our own chat page."""
    found = door.sites.find(site)
    require_origin(request, found)
    if found is None:
        raise not_found()
    shop = door.storefront
    return SiteBody.of(found, shop.company, shop.starters, datetime.now(UTC))


@api.post(
    "/conversations",
    status_code=201,
    responses={200: {"model": Opened, "description": "Resumed: a conversation that was open, with a fresh token."}},
)
async def start_conversation(
    door: TheDoor,
    request: Request,
    response: Response,
    body: NewConversation | None = None,
    authorization: Authorization = None,
) -> Opened:
    """Open a conversation; with a `message`, ask its first question too and get the turn with it.

    The token of an earlier conversation, sent along, makes the new one belong to the same visitor.
    """
    asked = body or NewConversation()
    started, resumed, merged = await run_in_threadpool(_open, door, request, asked, authorization)
    if merged:
        door.streams.close(visitor=merged)
    response.status_code = 200 if resumed else 201
    opened = Opened(conversation_id=started.id, token=started.token, expires_at=started.expires_at, status="open")
    if resumed or asked.message is not None:
        conversation = await run_in_threadpool(find_conversation, door.database, started.id)
        opened.status = conversation.status
    if asked.message is not None:
        message = _said(door, request, conversation, asked.message)
        opened.turn = turn_body(await door.streams.turn(message))
    return opened


def _open(
    door: Door, request: Request, asked: NewConversation, authorization: str | None
) -> tuple[StartedConversation, bool, str]:
    """The conversation, whether it was resumed, and the visitor whose tokens ended because they are known now."""
    site = door.sites.find(asked.site)
    require_origin(request, site)
    if site is None:
        raise Problem(422, "No such site", "site: there is no such site; `frontdesk sites list` names those there are")
    door.limits.opening_at(site.id)
    identity = _identity(door, site, asked)
    if identity is None and site.identity_required:
        raise Problem(401, "Identity required", "This site is for signed-in customers only; send their `identity`.")
    form = asked.pre_chat
    earlier = earlier_conversation(door, request, authorization)
    started, resumed = open_conversation(
        door.database,
        channel=asked.channel,
        site="" if site.id == DEFAULT else site.id,
        identity=identity,
        earlier=earlier,
        resume=asked.resume,
        name=form.name if form else "",
        email=form.email if form else "",
    )
    merged = earlier.visitor if identity and earlier and earlier.visitor != started.visitor else ""
    return started, resumed, merged


def _identity(door: Door, site: Site, asked: NewConversation) -> Identity | None:
    """The customer that was vouched for, None for an anonymous one. Raises Problem for an identity that proves
    nothing: it is never taken for none."""
    if asked.identity is not None:
        return identity_by_token(asked.identity, site, identity_secret(door.database, site.id), datetime.now(UTC))
    if asked.user_id is not None and asked.identity_hash is not None:
        return identity_by_hash(asked.user_id, asked.identity_hash, site, identity_secret(door.database, site.id))
    return None


@api.get("/conversations")
def list_conversations(door: TheDoor, conversation: OpenedConversation) -> ListBody:
    """The conversations of the visitor whose token this is."""
    return ListBody.of(conversations_of(door.database, conversation.visitor))


@api.post("/conversations/{conversation_id}/token")
def renew_token(door: TheDoor, conversation_id: str, conversation: OpenedConversation) -> TokenBody:
    """A fresh token for a conversation of the visitor whose token this is."""
    known = conversation_id if ID.fullmatch(conversation_id) else ""
    token = renewed_token(door.database, conversation, known)
    if token is None:
        raise not_found()
    return TokenBody(token=token.text, expires_at=token.expires_at)


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
    message = _said(door, request, conversation, body)
    if "text/event-stream" in request.headers.get("accept", ""):
        return respond(door.streams.answer_as_events(message))
    if wait:
        return JSONResponse(turn_body(await door.streams.turn(message)).model_dump())
    await run_in_threadpool(door.desk.accept, message)
    return JSONResponse(Accepted(message_id=message.id).model_dump(), status_code=202)


@api.get("/conversations/{conversation_id}")
def read_conversation(door: TheDoor, conversation: OwnConversation) -> ConversationBody:
    """Everything said so far, and where its events go on. Who reads it has seen it."""
    # What is said or done from here on comes as events: a turn that is stored meanwhile must not stand for an agent's
    # words before it, nor those for the turn that they come behind.
    last = last_sequence(door.database, conversation.id)
    happened = told(door.database, conversation.id)
    said = [entry for entry in entries(door.database, conversation.id) if entry.sequence <= last]
    answers = [entry.answered_at for entry in said if entry.answered_at is not None]
    latest = max([*answers, *(one.at for one in happened if isinstance(one, AgentMessage))], default=None)
    if latest is not None and latest > conversation.seen_at:
        note_seen(door.database, conversation.id, latest)
    status = find_conversation(door.database, conversation.id).status
    return ConversationBody.of(status, said, happened, door.files.of(conversation.id))


@api.get("/conversations/{conversation_id}/events", response_class=Response)
async def follow_events(
    door: TheDoor, conversation: OwnConversation, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Server-sent events: token, turn, status, agent_message, error. `Last-Event-ID` resumes after that one.

    A token is `{message_id, text}`: the next piece of the answer to that message; the turn that follows is what counts.
    With `"restart": true` it is the first piece of another attempt, after a crash say: what came of that answer before
    no longer counts, and its text begins anew.
    """
    after = event_number(last_event_id)
    return respond(await door.streams.follow(conversation, after))


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
def ask_for_person(door: TheDoor, conversation: OwnConversation, request: Request) -> StatusBody:
    """Ask for a person. Asking again changes nothing."""
    door.limits.handover(request.state.address, conversation.site)
    site = door.sites.find(conversation.site)
    is_in = site is None or is_open(site, datetime.now(UTC))
    door.desk.ask_for_person(conversation.id, "asked" if is_in else "hours")
    return StatusBody(status=find_conversation(door.database, conversation.id).status)


@api.post("/conversations/{conversation_id}/rating", status_code=204)
def rate_conversation(door: TheDoor, conversation: OwnConversation, body: Rating) -> None:
    """One to five stars for the whole conversation. The last rating counts."""
    rate(door.database, conversation.id, stars=body.stars, comment=body.comment)


@api.post("/conversations/{conversation_id}/end")
def end_conversation(door: TheDoor, conversation: OwnConversation) -> StatusBody:
    """Say that the matter is settled. A later message opens it again."""
    door.desk.end(conversation.id)
    return StatusBody(status="resolved")


@api.delete("/conversations/{conversation_id}", status_code=204)
async def forget_conversation(door: TheDoor, conversation: OwnConversation) -> None:
    """Forget this conversation and everything said in it."""
    await run_in_threadpool(door.forget, conversation.id, actor=CUSTOMER)
    door.streams.close(conversation.id)


def event_number(last_event_id: str | None) -> int:
    """The number after which events are wanted; 0, the beginning, when the header is missing."""
    if not last_event_id:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 16):
        raise Problem(400, "Unknown event", "Last-Event-ID is the number of the last event that you received.")
    return int(last_event_id)


def _said(door: Door, request: Request, conversation: Conversation, body: NewMessage) -> Message:
    """The message, if there are not too many of them. Raises Problem (429)."""
    address = getattr(request.state, "address", "")
    door.limits.message(address, conversation.visitor, conversation.id, conversation.site or DEFAULT)
    # The time is ours: clients' clocks are wrong.
    return Message(body.id, conversation.id, conversation.sender, conversation.channel, body.text, datetime.now(UTC))


def _addresses(turn: Turn) -> list[str]:
    return [citation.url for citation in turn.reply.citations]
