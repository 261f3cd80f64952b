"""Who may see a conversation: whoever holds a living token of it, from a page that its site lists.

Owns how a request shows its token, and the one rule of access, which every route but the public ones depends on.
Identities of known customers are checked where a conversation is opened: see `identity`.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Request

from bot.channels.web.door import Door, TheDoor
from bot.channels.web.origins import foreign_origin, require_origin
from bot.channels.web.problems import not_found, not_signed_in
from bot.conversation.messages import Turn
from bot.storage.conversations import Conversation, opened_conversation
from bot.storage.files import StoredFile
from bot.storage.turns import UnknownTurn, placed_turn

ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
BEARER = re.compile(r"[Bb]earer ([A-Za-z0-9_-]{16,128})")

Authorization = Annotated[str | None, Header()]


def opened(door: TheDoor, request: Request, authorization: Authorization = None) -> Conversation:
    """The conversation that the token opens, whatever the path names."""
    return _opened(door, request, _bearer(authorization))


def own_conversation(
    door: TheDoor, request: Request, conversation_id: str, authorization: Authorization = None
) -> Conversation:
    """The conversation of the path, if the token opens it. Foreign, unknown and malformed ids look all the same."""
    return _own(door, request, conversation_id, authorization)


def own_turn(door: TheDoor, request: Request, turn_id: str, authorization: Authorization = None) -> Turn:
    """The turn of the path, if the token opens its conversation."""
    _bearer(authorization)
    turn = None
    if ID.fullmatch(turn_id):
        try:
            turn = placed_turn(door.database, turn_id).turn
        except UnknownTurn:
            turn = None
    _own(door, request, turn.message.conversation if turn else "", authorization)
    if turn is None:
        raise not_found()
    return turn


def own_file(door: TheDoor, request: Request, file_id: str, authorization: Authorization = None) -> StoredFile:
    """The file of the path, if the token opens its conversation."""
    _bearer(authorization)
    file = door.files.find(file_id) if ID.fullmatch(file_id) else None
    _own(door, request, file.conversation if file else "", authorization)
    if file is None:
        raise not_found()
    return file


def earlier_conversation(door: Door, request: Request, authorization: str | None) -> Conversation | None:
    """The conversation of the token shown when another one is opened; None without a token, or for one that opens
    nothing any more: then a new visitor begins."""
    match = BEARER.fullmatch(authorization or "")
    return opened_conversation(door.database, match[1]) if match else None


OpenedConversation = Annotated[Conversation, Depends(opened)]
OwnConversation = Annotated[Conversation, Depends(own_conversation)]
OwnTurn = Annotated[Turn, Depends(own_turn)]
OwnFile = Annotated[StoredFile, Depends(own_file)]


def _own(door: Door, request: Request, conversation_id: str, authorization: str | None) -> Conversation:
    # An unknown conversation costs the same look-up and comparison as a foreign one.
    conversation = _opened(door, request, _bearer(authorization))
    if conversation.id != conversation_id:
        raise not_found()
    return conversation


def _opened(door: Door, request: Request, token: str) -> Conversation:
    conversation = opened_conversation(door.database, token)
    if conversation is None:
        raise not_found()
    if foreign_origin(request) is not None:
        require_origin(request, door.sites.find(conversation.site))
    return conversation


def _bearer(authorization: str | None) -> str:
    """The token of an Authorization header. Raises the problem of a missing one, the same for every address."""
    match = BEARER.fullmatch(authorization or "")
    if match is None:
        raise not_signed_in()
    return match[1]
