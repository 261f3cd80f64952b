"""`frontdesk ask` through the running service: one HTTP round trip with the standard library alone.

Owns the wording of an answer on the terminal. Returns None for everything it does not recognise, so that the full
command line takes over (help, no service running, unknown options).
"""

from __future__ import annotations

import http.client
import json
import sys
import uuid
from collections.abc import Sequence
from urllib.parse import urlsplit

from bot.home import find_home, running_service

SECONDS_TO_WAIT = 30.0


def ask_running_service(arguments: Sequence[str]) -> int | None:
    """Exit status after asking, or None when this is not a plain question to a running service."""
    plain = [a for a in arguments if a != "--json"]
    if len(plain) != 1 or plain[0].startswith("-"):
        return None
    service = running_service(find_home(None))
    if service is None:
        return None
    turn = _post(service.url, plain[0])
    if turn is None:
        return None
    sys.stdout.write((json.dumps(turn, ensure_ascii=False) if "--json" in arguments else render(turn)) + "\n")
    return 0


def render(turn: dict[str, object]) -> str:
    """A turn, in the shape of the HTTP contract, as lines for a person."""
    lines = [str(turn["text"])]
    citations = turn["citations"]
    if isinstance(citations, list):
        lines += [f"  [{n}] {c['title']}  {c['url']}" for n, c in enumerate(citations, 1)]
    lines.append(f"  ({turn['status']}, {turn['ms']:.0f} ms, turn {turn['id']})")
    return "\n".join(lines)


def _post(url: str, text: str) -> dict[str, object] | None:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "127.0.0.1", place.port, timeout=SECONDS_TO_WAIT)
    body = json.dumps({"channel": "terminal", "message": {"id": str(uuid.uuid4()), "text": text}})
    try:
        connection.request("POST", "/api/v1/conversations", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return answer["turn"] if response.status == 201 else None
