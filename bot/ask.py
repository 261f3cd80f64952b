"""`frontdesk ask` through the running service: one HTTP round trip with the standard library alone.

Owns the wording of an answer on the terminal. Returns None for everything it does not recognise, so that the full
command line takes over (help, no service running, unknown options).
"""

from __future__ import annotations

import json
import os
import socket
import sys

from bot.home import home_folder, running_service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS_TO_WAIT = 30.0


def ask_running_service(arguments: Sequence[str]) -> int | None:
    """Exit status after asking, or None when this is not a plain question to a running service."""
    plain = [a for a in arguments if a != "--json"]
    if len(plain) != 1 or plain[0].startswith("-"):
        return None
    service = running_service(home_folder(None))
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
    """HTTP by hand: importing http.client costs more than the whole question (docs/decisions.md)."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    message = {"id": os.urandom(16).hex(), "text": text}
    body = json.dumps({"channel": "terminal", "message": message}).encode()
    head = (
        f"POST /api/v1/conversations HTTP/1.0\r\nHost: {host}:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        with socket.create_connection((host, int(port)), timeout=SECONDS_TO_WAIT) as connection:
            connection.sendall(head.encode() + body)
            with connection.makefile("rb") as stream:
                status = stream.readline().split()
                while stream.readline().strip():
                    pass
                answer = json.loads(stream.read())
    except (OSError, ValueError):
        return None
    return answer["turn"] if status[1:2] == [b"201"] else None
