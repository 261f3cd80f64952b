"""The inbox: the queue, a conversation with all that is known of it, and what an agent does with it.

Owns the routes under /console/inbox and the stream that says what changed. What a step means is decided elsewhere
(`bot.storage.handover`); who may call what in `access`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from bot import FrontdeskError
from bot.channels.web.access import ID
from bot.channels.web.door import Door, TheDoor
from bot.channels.web.events import respond
from bot.channels.web.uploads import as_attachment
from bot.console.access import COOKIE, Refused, Who, agent_of
from bot.console.pages import go, is_part, page
from bot.console.story import reply_of, story_of, unmarked
from bot.conversation.messages import Turn, pseudonym
from bot.storage.canned import all_canned
from bot.storage.conversations import Conversation, UnknownConversation, find_conversation
from bot.storage.handover import HandOverRecord, Taken, current
from bot.storage.inbox import VIEWS, View, count_taken, count_waiting, listed
from bot.storage.outbox import count_dead
from bot.storage.people import Session, find_session
from bot.storage.turns import past, reason_of
from bot.storage.visitors import find_visitor

Text = Annotated[str, Form(max_length=20_000)]
Id = Annotated[str, Form(max_length=64)]

LOOK_SECONDS = 1.0
"""How soon a stream notices that the service stops."""
CHECK_SECONDS = 5.0
"""How soon a stream notices that its session is over, however much happens on it."""

_log = logging.getLogger(__name__)

router = APIRouter(prefix="/console", include_in_schema=False)


@router.get("/inbox")
def inbox(door: TheDoor, who: Who, view: str = "queue") -> Response:
    return _page(door, who, _view(view))


@router.get("/inbox/list")
def inbox_list(door: TheDoor, who: Who, view: str = "queue", selected: str = "") -> Response:
    return page("list.html", who, {**_lists(door, who, _view(view)), "selected": selected})


@router.get("/inbox/{conversation_id}")
def inbox_conversation(door: TheDoor, who: Who, conversation_id: str, view: str = "queue") -> Response:
    return _page(door, who, _view(view), conversation_id)


@router.get("/inbox/{conversation_id}/story")
def inbox_story(door: TheDoor, who: Who, conversation_id: str, view: str = "queue") -> Response:
    return _part(door, who, conversation_id, _view(view))


@router.get("/inbox/{conversation_id}/draft")
def inbox_draft(door: TheDoor, who: Who, conversation_id: str) -> Response:
    _found(door, conversation_id)
    before = past(door.database, conversation_id).turns
    if not before:
        return page("draft.html", who, {"draft": None, "insert": "", "asked": ""})
    # Who only asked for a person wants an answer to the question before.
    place = next((n for n in reversed(range(len(before))) if not _only_wants_person(before[n])), len(before) - 1)
    asked = before[place].message
    try:
        draft = reply_of(door.desk.draft(asked, before[:place]))
    except Exception:  # as a rule the very fault for which the conversation waits
        _log.exception("no draft for conversation %s", pseudonym(conversation_id))
        return page("draft.html", who, {"draft": None, "insert": "", "asked": asked.text})
    return page("draft.html", who, {"draft": draft, "insert": unmarked(draft), "asked": asked.text})


@router.post("/inbox/{conversation_id}/take")
def take(
    request: Request,
    door: TheDoor,
    who: Who,
    conversation_id: str,
    instead_of: Id = "",
    view: Id = "queue",
) -> Response:
    _found(door, conversation_id)
    said = _tried(lambda: door.desk.take(conversation_id, agent_of(who), instead_of=instead_of))
    return _done(request, door, who, conversation_id, view, said)


@router.post("/inbox/{conversation_id}/return")
def give_back(request: Request, door: TheDoor, who: Who, conversation_id: str, view: Id = "queue") -> Response:
    _found(door, conversation_id)
    said = _tried(lambda: door.desk.give_back(conversation_id, agent_of(who)))
    return _done(request, door, who, conversation_id, view, said)


@router.post("/inbox/{conversation_id}/resolve")
def resolve(request: Request, door: TheDoor, who: Who, conversation_id: str, view: Id = "queue") -> Response:
    _found(door, conversation_id)
    said = _tried(lambda: door.desk.resolve(conversation_id, agent_of(who)))
    return _done(request, door, who, conversation_id, view, said)


@router.post("/inbox/{conversation_id}/reply")
def reply(
    request: Request,
    door: TheDoor,
    who: Who,
    conversation_id: str,
    text: Text = "",
    id: Id = "",
    view: Id = "queue",
) -> Response:
    _found(door, conversation_id)
    name = _message_id(id)
    said = _tried(lambda: door.desk.reply(conversation_id, agent_of(who), name, text))
    return _done(request, door, who, conversation_id, view, said)


@router.post("/inbox/{conversation_id}/note")
def note(
    request: Request,
    door: TheDoor,
    who: Who,
    conversation_id: str,
    text: Text = "",
    id: Id = "",
    view: Id = "queue",
) -> Response:
    _found(door, conversation_id)
    name = _message_id(id)
    said = _tried(lambda: door.desk.leave_note(conversation_id, agent_of(who), name, text))
    return _done(request, door, who, conversation_id, view, said)


@router.get("/events")
def events(request: Request, door: TheDoor, mark: str = "") -> Response:
    """Says which conversation changed; the page then asks for the parts that show it.

    First whether anything did since the page was made, which had `mark`.
    """
    return respond(_changes(door, request.cookies.get(COOKIE, ""), mark))


@router.get("/files/{file_id}", response_class=Response)
def file(door: TheDoor, file_id: str) -> FileResponse:
    found = door.files.find(file_id) if ID.fullmatch(file_id) else None
    if found is None or not door.files.path(found).is_file():
        raise Refused(404, "Not found", "There is no such file, or it was deleted with its conversation.")
    return as_attachment(door.files, found)


def _page(door: Door, who: Session, view: View, selected: str = "") -> Response:
    mark = door.desk.bell.mark  # before anything is read
    values = _pane(door, who, _found(door, selected)) if selected else {"conversation": None}
    shown = {**_lists(door, who, view), **values, "selected": selected, "dead": _dead(door, who), "mark": mark}
    return page("inbox.html", who, shown)


def _part(door: Door, who: Session, conversation_id: str, view: View, said: str = "") -> Response:
    """The conversation anew, but for what the agent is writing."""
    values = _pane(door, who, _found(door, conversation_id))
    return page("story.html", who, {**values, "view": view, "said": said})


def _done(request: Request, door: Door, who: Session, conversation_id: str, view: str, said: str) -> Response:
    if is_part(request):
        return _part(door, who, conversation_id, _view(view), said)
    if said:
        raise Refused(409, "That did not work", said)
    return go(f"/console/inbox/{conversation_id}?view={_view(view)}")


def _lists(door: Door, who: Session, view: View) -> dict[str, object]:
    return {
        "view": view,
        "items": listed(door.database, view, who.person.id),
        "waiting": count_waiting(door.database),
        "mine": count_taken(door.database, who.person.id),
    }


def _pane(door: Door, who: Session, conversation: Conversation) -> dict[str, object]:
    with door.database.read() as connection:
        held: HandOverRecord | None = current(connection, conversation.id)
    holder = held.taken_by if held is not None and conversation.status == "person" else None
    return {
        "conversation": conversation,
        "visitor": find_visitor(door.database, conversation.visitor),
        "held": held,
        "is_mine": holder == who.person.id,
        "colleague": held.taken_name if held is not None and holder not in (None, who.person.id) else "",
        "story": story_of(door.database, conversation.id, door.files.of(conversation.id)),
        "canned": all_canned(door.database),
        "message_id": secrets.token_urlsafe(12),
        "said": "",
    }


def _dead(door: Door, who: Session) -> int:
    return count_dead(door.database) if who.person.role == "lead" else 0


def _found(door: Door, conversation_id: str) -> Conversation:
    try:
        if not ID.fullmatch(conversation_id):
            raise UnknownConversation(conversation_id)
        return find_conversation(door.database, conversation_id)
    except UnknownConversation:
        raise Refused(404, "Not found", "There is no such conversation; perhaps its customer had it deleted.") from None


def _tried(act: Callable[[], object]) -> str:
    """What went wrong, for the agent to read; empty when it worked."""
    try:
        act()
    except Taken as error:
        return f"{error.by} has this conversation now."
    except FrontdeskError as error:
        return f"{str(error)[:1].upper()}{str(error)[1:]}."
    return ""


def _only_wants_person(turn: Turn) -> bool:
    return turn.reply.status == "handed_over" and reason_of(turn) == "asked"


def _view(name: str) -> View:
    return next((view for view in VIEWS if view == name), "queue")


def _message_id(name: str) -> str:
    return name if ID.fullmatch(name) else secrets.token_urlsafe(12)


async def _changes(
    door: Door, token: str, mark: str, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    changed: set[str] = set()
    rung = asyncio.Event()

    def note(conversation: str) -> None:
        changed.add(conversation)
        rung.set()

    def ring(conversation: str) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(note, conversation)

    leave = door.desk.bell.listen(ring)
    try:
        since = "nothing" if door.desk.bell.mark == mark else "news"
        yield f"retry: 2000\r\nevent: listening\r\ndata: {since}\r\n\r\n".encode()
        checked = clock()
        while not door.draining:
            with suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), LOOK_SECONDS)
            if clock() >= checked + CHECK_SECONDS:
                if await run_in_threadpool(_gone, door, token):
                    return
                checked = clock()
            rung.clear()
            now, changed = changed, set()
            for conversation in now:
                yield f"event: change\r\ndata: {conversation}\r\n\r\n".encode()
    finally:
        leave()


def _gone(door: Door, token: str) -> bool:
    return find_session(door.database, token, datetime.now(UTC), used=False) is None
