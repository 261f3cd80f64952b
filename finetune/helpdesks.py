"""Ticket exports of Zendesk and conversation exports of Intercom as conversations.

Owns their documented fields: who is the customer, what the customer could see, tags as topics. Private notes, call logs
and events are never read. Knows nothing about masking or training rows.

Formats: Zendesk https://support.zendesk.com/hc/en-us/articles/4408886165402 (JSON export, a ticket a line) and
https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_comments/; Intercom
https://developers.intercom.com/docs/references/rest-api/api.intercom.io/conversations/conversation.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

from finetune.dialogues import (
    MAX_DIALOGUE,
    Dialogue,
    JsonObject,
    Spoken,
    as_list,
    as_name,
    as_object,
    read_one,
    tidied,
)
from finetune.examples import FinetuneError, Problem, clean_consent, parse_json, parse_object, read_lines

MAX_WHOLE = 100_000_000
"""Bytes of an export that is one JSON value and must be held in memory whole; JSON Lines may be of any size."""
MAX_MARKUP = 1_000_000
"""Characters of one HTML body that are read."""


# -------------------------------------------------------------------------------------------------------- Zendesk


@dataclass(frozen=True, slots=True)
class _Person:
    name: str
    role: str


def read_zendesk(path: Path) -> Iterator[Dialogue | Problem]:
    """The tickets of a JSON export: JSON Lines, a list, or pages `{"tickets": [...], "users": [...]}` with comments.

    The requester is the customer; users with the role end-user are customers too; everybody else is an agent. A
    comment counts only when it says `"public": true`. Add `"consent": false` to a ticket to keep it out of training.
    Raises FinetuneError when the file cannot be read or is larger than MAX_WHOLE without being JSON Lines.
    """
    for number, page in _objects(path, "tickets"):
        if isinstance(page, Problem):
            yield page
            continue
        people = {as_name(user.get("id")): _person(user) for user in map(as_object, as_list(page.get("users")))}
        tickets = as_list(page["tickets"]) if "tickets" in page else [page]
        yield from _each(number, tickets, partial(_ticket, people=people))


def _person(user: JsonObject) -> _Person:
    return _Person(as_name(user.get("name")), as_name(user.get("role")))


def _ticket(ticket: JsonObject, people: Mapping[str, _Person]) -> Dialogue:
    comments = ticket.get("comments")
    if not isinstance(comments, list):
        raise ValueError(
            'has no "comments"; export the tickets with them: the JSON export does, the list of tickets does not'
        )
    sides = {key: as_object(ticket.get(key)) for key in ("requester", "submitter", "assignee")}
    known = {as_name(side.get("id")): _person(side) for side in sides.values() if side} | dict(people)
    visible = [comment for comment in map(as_object, cast(list[object], comments)) if _is_visible(comment)]
    visible.sort(key=lambda comment: as_name(comment.get("created_at")))
    authors = [
        as_name(comment.get("author_id")) or as_name(as_object(comment.get("author")).get("id")) for comment in visible
    ]
    customer = as_name(ticket.get("requester_id")) or as_name(sides["requester"].get("id"))
    # A requester whose data was erased: who wrote first asked.
    customer = customer or next(iter(authors), "")
    turns = []
    for author, comment in zip(authors, visible, strict=True):
        speaker = _zendesk_speaker(author, customer, known)
        if (text := _comment_text(comment)) and speaker:
            turns.append(Spoken(speaker, text))
    names = {customer, *authors, *(as_name(side.get("id")) for side in sides.values())} & known.keys()
    return _dialogue(ticket, turns, as_list(ticket.get("tags")), [known[one].name for one in sorted(names)])


def _is_visible(comment: JsonObject) -> bool:
    """Whether the customer could read it. A voice comment is the log of a call: nobody wrote it."""
    return comment.get("public") is True and comment.get("type", "Comment") == "Comment"


def _zendesk_speaker(author: str, customer: str, known: Mapping[str, _Person]) -> str:
    """Who spoke; empty when the author is unknown. Zendesk's own system writes as user -1."""
    if not author:
        return ""
    if author == "-1":
        return "bot"
    if author == customer or (author in known and known[author].role == "end-user"):
        return "customer"
    return "agent"


def _comment_text(comment: JsonObject) -> str:
    """`plain_body` holds HTML entities, `body` is as it was typed, `html_body` is what both are made from."""
    plain, body, markup = (comment.get(key) for key in ("plain_body", "body", "html_body"))
    if isinstance(plain, str) and plain.strip():
        return tidied(html.unescape(plain))
    if isinstance(body, str) and body.strip():
        return tidied(body)
    return html_text(markup) if isinstance(markup, str) else ""


# ------------------------------------------------------------------------------------------------------- Intercom

_SPEAKERS = {
    "user": "customer",
    "lead": "customer",
    "contact": "customer",
    "admin": "agent",
    "team": "agent",
    "bot": "bot",
}
_REPLIES = frozenset({"comment", "quick_reply", "open", "close"})
"""Parts that the customer sees (closing and reopening may carry a reply); notes, assignments and events are not."""


def read_intercom(path: Path) -> Iterator[Dialogue | Problem]:
    """Conversations as the API gives them: JSON Lines, one, a list, or pages `{"conversations": [...]}`.

    Contacts, users and leads are the customer, admins are agents, Fin and Operator are bots; parts of an author who is
    none of these are left out. Add `"consent": false` to a conversation to keep it out of training. Raises
    FinetuneError when the file cannot be read or is larger than MAX_WHOLE without being JSON Lines.
    """
    for number, page in _objects(path, "conversations"):
        if isinstance(page, Problem):
            yield page
            continue
        conversations = as_list(page["conversations"]) if "conversations" in page else [page]
        yield from _each(number, conversations, _conversation)


def _conversation(row: JsonObject) -> Dialogue:
    parts = as_object(row.get("conversation_parts")).get("conversation_parts")
    if not isinstance(parts, list):
        raise ValueError('has no "conversation_parts"; retrieve each conversation by its id: the list leaves them out')
    # Before version 2.0 of the API the opening message had another name.
    source = as_object(row.get("source")) or as_object(row.get("conversation_message"))
    replies = [part for part in map(as_object, cast(list[object], parts)) if f"{part.get('part_type')}" in _REPLIES]
    replies.sort(key=lambda part: at if isinstance(at := part.get("created_at"), int) else 0)
    turns, names = [], []
    for part in (source, *replies):
        author = as_object(part.get("author"))
        names.append(as_name(author.get("name")))
        speaker = _intercom_speaker(author)
        body = part.get("body")
        if speaker and isinstance(body, str) and part.get("redacted") is not True and (text := html_text(body)):
            turns.append(Spoken(speaker, text))
    tags = as_list(as_object(row.get("tags")).get("tags"))
    return _dialogue(row, turns, [as_object(tag).get("name") for tag in tags], names)


def _intercom_speaker(author: JsonObject) -> str:
    if author.get("from_ai_agent") is True or as_name(author.get("email")).startswith("operator+"):
        return "bot"
    return _SPEAKERS.get(as_name(author.get("type")), "")


# ----------------------------------------------------------------------------------------------------- both of them


def _objects(path: Path, pages: str) -> Iterator[tuple[int, JsonObject | Problem]]:
    """`(line, object)` of JSON Lines, or of a file that is one JSON value: then `line` is the place in its list.

    `pages` is the key under which a page lists what it holds.
    """
    if _is_json_lines(path):
        for number, line in read_lines(path, MAX_DIALOGUE):
            try:
                yield number, line if isinstance(line, Problem) else parse_object(line)
            except ValueError as error:
                yield number, Problem(number, str(error))
        return
    value = _whole_value(path)
    for number, one in enumerate(cast(list[object], value) if isinstance(value, list) else [value], 1):
        yield number, cast(JsonObject, one) if isinstance(one, dict) else Problem(number, f"is no object of {pages}")


def _is_json_lines(path: Path) -> bool:
    """Whether one of the first lines is an object by itself, and the first does not open a longer value."""
    lines = [line for _, line in islice(read_lines(path, MAX_DIALOGUE), 5) if isinstance(line, str)]
    if not lines or lines[0][0] != "{" or lines[0] == "{":
        return False
    for line in lines:
        try:
            parse_object(line)
        except ValueError:
            continue
        return True
    return False


def _whole_value(path: Path) -> object:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_WHOLE + 1)
    except OSError as error:
        raise FinetuneError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error
    if len(content) > MAX_WHOLE:
        raise FinetuneError(f"{path}: one JSON value of over {MAX_WHOLE:,} bytes; export JSON Lines, or less at once")
    try:
        return parse_json(content)
    except ValueError as error:
        reason = str(error).removesuffix("; fix or delete the line")
        raise FinetuneError(f"{path}: {reason}; is it cut off? export it again") from None


def _each(number: int, rows: Iterable[object], read: Callable[[JsonObject], Dialogue]) -> Iterator[Dialogue | Problem]:
    for row in rows:
        yield from read_one(number, as_object(row), read)


def _dialogue(row: JsonObject, turns: Iterable[Spoken], tags: Iterable[object], names: Iterable[str]) -> Dialogue:
    name = as_name(row.get("id"))
    said = tuple(turns)
    if not name:
        raise ValueError('"id" is missing')
    if not said:
        raise ValueError(f"{name} holds nothing that customer and agent wrote to each other")
    topics = tuple(dict.fromkeys(filter(None, map(as_name, tags))))
    known = tuple(dict.fromkeys(filter(None, names)))
    return Dialogue(name, said, topics, known, consent=clean_consent(row.get("consent")))


_TAG = re.compile(r"<[A-Za-z/!][^>]*>")
_UNSEEN = frozenset(("script", "style", "head", "template", "noscript", "svg"))
_INLINE = frozenset(
    ("a", "abbr", "b", "bdi", "big", "cite", "code", "del", "em", "font", "i", "img", "ins", "kbd", "label", "mark",
     "q", "s", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr")
)  # fmt: skip


def html_text(markup: str) -> str:
    """The text of an HTML body with a line for each block, links by their text. Plain text stays as it is."""
    if not _TAG.search(markup):
        return tidied(html.unescape(markup))
    from lxml import etree
    from lxml import html as parser

    # lxml refuses control characters and lone surrogates.
    shown = "".join(c for c in markup[:MAX_MARKUP] if c in "\t\n" or unicodedata.category(c) not in ("Cc", "Cs"))
    try:
        root = parser.document_fromstring(shown)
    except (etree.ParserError, ValueError):  # nothing but comments
        return ""
    pieces: list[str] = []
    walk = etree.iterwalk(root, events=("start", "end", "comment", "pi"))
    for event, element in walk:
        if event == "start" and element.tag in _UNSEEN:
            walk.skip_subtree()
            continue
        if event in ("start", "end") and element.tag not in _INLINE:
            pieces.append("\n")
        if event == "start":
            pieces.append(_SPACE.sub(" ", element.text or ""))
        else:
            pieces.append(_SPACE.sub(" ", element.tail or ""))
    return tidied(re.sub(r"\s*\n\s*", "\n", "".join(pieces)))


_SPACE = re.compile(r"\s+")
