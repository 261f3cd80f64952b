"""Delivers what the outbox owes: by e-mail over SMTP, and by calling a webhook, signed.

Owns the wire form of both, and the threads that try, one for each way: a server that hangs holds up its own way only.
Each notification goes at least once and always under the same id, in the header `Frontdesk-Id` and for mail as its
Message-ID. Knows nothing about what a notification tells of.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import smtplib
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Literal

from bot import FrontdeskError
from bot.storage.database import Database
from bot.storage.outbox import KINDS, Kind, Notice, due, mark_failed, mark_sent
from retriever.fetch import Fetcher, place_of
from retriever.passages import RetrieverError

_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
MAIL_SECONDS = 15.0
CALL_SECONDS = 10.0

REASONS: Mapping[str, str] = {
    "asked": "asked for a person",
    "not_known_twice": "got no answer twice",
    "angry": "is angry",
    "policy": "has a matter that needs a person",
    "error": "met an error of ours",
    "hours": "wrote outside your hours",
    "urgent": "has something urgent",
    "left": "got no answer from the agent who has the conversation",
}

Deliver = Callable[[Notice], None]
"""Delivers one notification or raises FrontdeskError with what to do about it."""


@dataclass(frozen=True, slots=True)
class MailServer:
    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    user: str
    password: str
    sender: str
    to: tuple[str, ...]


def mailer(server: MailServer, address: str, trust: ssl.SSLContext | None = None) -> Deliver:
    """Sends notifications by mail. `address` is how the staff reach the console, `trust` whom TLS trusts."""

    def send(notice: Notice) -> None:
        message = _letter(notice, server, address)
        try:
            with _connected(server, trust or ssl.create_default_context()) as smtp:
                if server.user:
                    smtp.login(server.user, server.password)
                refused = smtp.send_message(message)
        except (smtplib.SMTPException, OSError) as error:
            raise FrontdeskError(f"{server.host}:{server.port}: {_plainly(error)}; check the table [mail]") from None
        for name, (code, said) in refused.items():  # the others have it
            why = _plainly(smtplib.SMTPResponseException(code, said))
            _log.warning("%s:%s takes no mail for %s (%s); check mail.to", server.host, server.port, name, why)

    return send


def caller(url: str, secret: str, private: tuple[str, ...] = ()) -> Deliver:
    """Calls a webhook. Private addresses are refused unless named. Raises FrontdeskError for a bad `url`."""
    try:
        place = place_of(url)
    except RetrieverError as error:
        raise FrontdeskError(f"webhook.url: {error}") from None
    fetcher = Fetcher(private, CALL_SECONDS, setting="webhook.private")

    def call(notice: Notice) -> None:
        body = notice.payload.encode()
        moment = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "Frontdesk-Id": notice.id,
            "Frontdesk-Timestamp": moment,
            "Frontdesk-Signature": f"v1={signature(secret, moment, body)}",
        }
        try:
            answer = fetcher.post(place, body, headers)
        except RetrieverError as error:
            raise FrontdeskError(str(error)) from None
        if not 200 <= answer.status < 300:
            raise FrontdeskError(f"{place.url} answered {answer.status}; it should answer 2xx once it has the call")

    return call


def signature(secret: str, moment: str, body: bytes) -> str:
    """HMAC-SHA256 in hex over `moment`, a dot and the body. A receiver refuses moments that are minutes old."""
    return hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()


class Courier:
    """Tries what is due, of each kind one at a time. `run` returns after `stop`."""

    def __init__(self, database: Database, ways: Mapping[Kind, Deliver]) -> None:
        self._database = database
        self._ways = ways
        self._over = threading.Event()
        self._unnoted: dict[str, str] = {}
        """What came of a notification that the record could not take yet, by its id: the problem, empty if none."""

    def run(self) -> None:
        rounds = [threading.Thread(target=self._go_rounds, args=(kind,), name=kind, daemon=True) for kind in KINDS]
        for each in rounds:
            each.start()
        for each in rounds:
            each.join()

    def stop(self) -> None:
        self._over.set()

    def _go_rounds(self, kind: Kind) -> None:
        while not self._over.is_set():
            try:
                self.go_round(datetime.now(UTC), (kind,))
            except Exception:
                _log.exception("the outbox cannot be read; trying again")
            self._over.wait(LOOK_SECONDS)

    def go_round(self, now: datetime, kinds: Sequence[Kind] = KINDS) -> int:
        """Tries what is due at `now`, a few at a time; how many were delivered."""
        delivered = 0
        for notice in due(self._database, now, kinds):
            if self._over.is_set():
                break
            # While the disk is full, say, the record still calls it due: the same letter each second helps nobody.
            if notice.id not in self._unnoted:
                self._unnoted[notice.id] = self._try(notice)
            if problem := self._unnoted[notice.id]:
                mark_failed(self._database, notice, problem, now)
            else:
                mark_sent(self._database, notice)
                delivered += 1
            del self._unnoted[notice.id]
        return delivered

    def _try(self, notice: Notice) -> str:
        """The problem, empty if it was delivered."""
        way = self._ways.get(notice.kind)
        if way is None:
            return f"no {notice.kind} is set up any more; see [mail] and [webhook]"
        try:
            way(notice)
        except FrontdeskError as error:
            return str(error)
        except Exception as error:
            _log.exception("notification %s", notice.id)
            return f"failed ({type(error).__name__}); see the log"
        return ""


def _letter(notice: Notice, server: MailServer, address: str) -> EmailMessage:
    told = json.loads(notice.payload)
    reason = REASONS.get(str(told.get("reason")), "waits for a person")
    message = EmailMessage()
    message["From"] = server.sender
    message["To"] = ", ".join(server.to)
    message["Subject"] = f"A customer waits: {reason}"
    message["Message-ID"] = f"<{notice.id}@frontdesk.invalid>"
    message["Frontdesk-Id"] = notice.id
    message["Auto-Submitted"] = "auto-generated"
    message["Date"] = datetime.now(UTC)
    place = f"{address.rstrip('/')}/console/inbox/{told.get('conversation_id')}"
    since = datetime.fromisoformat(str(told.get("asked_at"))).strftime("%d %b %Y %H:%M UTC")
    message.set_content(
        f"A customer {reason} and has been waiting since {since}.\n\n"
        f"{place}\n\n"
        "What they wrote is not in this mail: it stays on your machine.\n"
    )
    return message


def _connected(server: MailServer, trust: ssl.SSLContext) -> smtplib.SMTP:
    if server.security == "tls":
        return smtplib.SMTP_SSL(server.host, server.port, timeout=MAIL_SECONDS, context=trust)
    smtp = smtplib.SMTP(server.host, server.port, timeout=MAIL_SECONDS)
    if server.security == "starttls":
        try:
            smtp.starttls(context=trust)
        except BaseException:
            smtp.close()
            raise
    return smtp


def _plainly(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return f"{error.smtp_code} {str(said).splitlines()[0][:120] if said else ''}".strip()
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message.rstrip('.')}"
    return (str(error) or type(error).__name__).splitlines()[0][:160]
