"""Files to a person: sent while one is awaited or there, and given back as attachments, never as pages.

Owns the two routes and the headers that keep a browser from running what it is given. What may be stored is decided in
`bot.storage.files`.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from bot.channels.web.access import OwnConversation, OwnFile
from bot.channels.web.bodies import FileBody
from bot.channels.web.door import TheDoor
from bot.channels.web.problems import Problem, not_found, problem_responses
from bot.storage.files import LARGEST_FILE, Files, StoredFile, safe_name

PROBLEMS: Final = problem_responses(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503)
FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
SANDBOX = "default-src 'none'; frame-ancestors 'none'; sandbox"

uploads = APIRouter(prefix="/api/v1", responses=PROBLEMS)


@uploads.post("/conversations/{conversation_id}/files", status_code=201, openapi_extra=FORM)
async def send_file(door: TheDoor, conversation: OwnConversation, request: Request) -> FileBody:
    """Send a file to the person who answers, as the field `file` of a form. Only while one is awaited or there."""
    # The body is read here and not by the framework: nobody's bytes are taken in before we know whose they are.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise Problem(415, "Not a form", "Send the file as the field `file` of a 'multipart/form-data' body.")
    if conversation.status not in ("waiting", "person"):
        raise Problem(409, "No person yet", "Files go to a person: ask for one first (POST .../handover).")
    door.limits.file(request.state.address, conversation.visitor, conversation.site)
    try:
        async with request.form(max_files=1, max_fields=4) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise Problem(422, "The request does not fit", "file: is missing; send it as a field of the form")
            name, content = file.filename or "file", await file.read(LARGEST_FILE + 1)
    except (HTTPException, ClientDisconnect) as error:
        # Who breaks off, with the button for it say, hears nothing any more; it is no fault of ours to be looked into.
        if isinstance(error, HTTPException) and error.status_code != 400:
            raise
        raise Problem(400, "The form cannot be read", "Send one file as 'multipart/form-data'.") from None
    stored = await run_in_threadpool(door.files.keep, conversation.id, name, content)
    door.desk.bell.ring(conversation.id)
    return FileBody.of(stored)


@uploads.get("/files/{file_id}", response_class=Response, responses={200: {"content": {"*/*": {}}}})
def read_file(door: TheDoor, file: OwnFile) -> FileResponse:
    """The file, as an attachment."""
    if not door.files.path(file).is_file():
        raise not_found()
    return as_attachment(door.files, file)


def as_attachment(files: Files, file: StoredFile) -> FileResponse:
    """To be saved, never shown: not even in a tab of its own does it run or load anything."""
    return FileResponse(
        files.path(file),
        media_type=file.type,
        headers={
            "Content-Disposition": attachment(file.name, file.type),
            "Content-Security-Policy": SANDBOX,
        },
    )


def attachment(name: str, kind: str) -> str:
    """Save under this name, and do not show. Old clients that read no UTF-8 get a plain name."""
    plain = safe_name("".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "_" for c in name), kind)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
