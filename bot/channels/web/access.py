"""Who may see a conversation: whoever holds its token.

Owns how a request shows its token, and the one rule of access, which every route but the public ones depends on.
Signed identities of known customers will be checked here too.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header

from bot.channels.web.door import TheDoor
from bot.channels.web.problems import not_found, not_signed_in
from bot.conversation.messages import Turn
from bot.storage.conversations import Conversation, find_conversation, token_opens
from bot.storage.turns import UnknownTurn, placed_turn

ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
BEARER = re.compile(r"[Bb]earer ([A-Za-z0-9_-]{16,128})")

Authorization = Annotated[str | None, Header()]


def own_conversation(door: TheDoor, conversation_id: str, authorization: Authorization = None) -> Conversation:
    """The conversation of the path, if the token opens it. Foreign, unknown and malformed ids look all the same."""
    token = _bearer(authorization)
    known = conversation_id if ID.fullmatch(conversation_id) else ""
    # An unknown conversation costs the same look-up and comparison as a foreign one.
    if not token_opens(door.database, known, token):
        raise not_found()
    return find_conversation(door.database, conversation_id)


def own_turn(door: TheDoor, turn_id: str, authorization: Authorization = None) -> Turn:
    """The turn of the path, if the token opens its conversation."""
    _bearer(authorization)
    turn = None
    if ID.fullmatch(turn_id):
        try:
            turn = placed_turn(door.database, turn_id).turn
        except UnknownTurn:
            turn = None
    own_conversation(door, turn.message.conversation if turn else "", authorization)
    if turn is None:
        raise not_found()
    return turn


OwnConversation = Annotated[Conversation, Depends(own_conversation)]
OwnTurn = Annotated[Turn, Depends(own_turn)]


def _bearer(authorization: str | None) -> str:
    """The token of an Authorization header. Raises the problem of a missing one, the same for every address."""
    match = BEARER.fullmatch(authorization or "")
    if match is None:
        raise not_signed_in()
    return match[1]
