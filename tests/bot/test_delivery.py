"""Notifications over real connections: a small mail server and a small web server of our own, on loopback."""

from __future__ import annotations

import email
import hashlib
import hmac
import json
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.message import Message as Letter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bot import FrontdeskError
from bot.delivery import Courier, Deliver, MailServer, caller, mailer
from bot.serving import Desk
from bot.storage.database import Database
from bot.storage.faults import RecordUnavailable
from bot.storage.outbox import Kind, due, undelivered
from tests.bot.channels.office import PATIENCE, wait_until
from tests.bot.storage.faulty_disk import FULL, faulty_disk
from tests.bot.storage.sample import message, open_conversation, open_record
from tests.bot.storage.test_handover import Bot

SECRET = "a secret of 16 or more characters"


class Post(socketserver.StreamRequestHandler):
    """Enough of SMTP for a letter. `refuse` letters are turned away first."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, PostOffice)
        with suppress(OSError):  # a client that does not trust us goes away
            if server.security == "tls":
                self.encrypt()
            self.talk(server)
        self.connection.close()

    def encrypt(self) -> None:
        server = self.server
        assert isinstance(server, PostOffice) and server.identity is not None
        self.connection = server.identity.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)

    def talk(self, server: PostOffice) -> None:
        self.say("220 post.test")
        while line := self.rfile.readline().decode().strip():
            word = line.split()[0].upper()
            if word == "DATA":
                self.say("354 go on")
                letter = b""
                while (piece := self.rfile.readline()) != b".\r\n":
                    letter += piece
                if server.refuse > 0:
                    server.refuse -= 1
                    self.say("451 the disk is full")
                else:
                    server.letters.append(email.message_from_bytes(letter))
                    server.encrypted.append(isinstance(self.connection, ssl.SSLSocket))
                    self.say("250 kept")
            elif word == "EHLO":
                plain = server.security == "starttls" and not isinstance(self.connection, ssl.SSLSocket)
                self.say(f"250-post.test\r\n250 {'STARTTLS' if plain else 'AUTH PLAIN'}")
            elif word == "RCPT" and any(f"<{name}>" in line for name in server.unknown):
                self.say("550 nobody here is called that")
            elif word == "STARTTLS":
                self.say("220 go on")
                self.encrypt()
            elif word == "AUTH":
                server.signed_in.append(line)
                self.say("235 welcome")
            elif word == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


class PostOffice(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, security: str = "none", identity: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Post)
        self.security = security
        self.identity = identity
        self.encrypted: list[bool] = []
        self.letters: list[Letter] = []
        self.signed_in: list[str] = []
        self.refuse = 0
        self.unknown: set[str] = set()


class Hook(BaseHTTPRequestHandler):
    """Keeps the calls; answers what it is told, 200 at the end."""

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.calls.append((dict(self.headers), body))
        self.send_response(server.answers.pop(0) if server.answers else 200)
        self.send_header("Location", "http://169.254.169.254/")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Receiver(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def post_office() -> Iterator[PostOffice]:
    server = PostOffice()
    with running(server):
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    with running(server):
        yield server


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_record(tmp_path) as database:
        yield database


def certificate(folder: Path, name: str) -> Path:
    """A certificate that its owner made, and its key, in one file."""
    place = folder / f"{name}.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName={name}", "-keyout", "-", "-out", "-"],
        capture_output=True, check=True,
    )  # fmt: skip
    place.write_bytes(made.stdout)
    return place


@contextmanager
def encrypted_office(security: str, shown: Path) -> Iterator[PostOffice]:
    identity = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity.load_cert_chain(shown)
    server = PostOffice(security, identity)
    with running(server):
        yield server


def mail(post_office: PostOffice, trust: ssl.SSLContext | None = None, **changed: object) -> Deliver:
    values = {"host": "127.0.0.1", "port": post_office.server_address[1], "security": "none", "user": "bot",
              "password": "p", "sender": "bot@shop.test", "to": ("team@shop.test", "lea@shop.test")}  # fmt: skip
    return mailer(MailServer(**(values | changed)), "https://chat.shop.test/", trust)  # type: ignore[arg-type]


def ask(database: Database, *kinds: Kind) -> str:
    """A customer asks for a person, through the desk."""
    conversation = open_conversation(database)
    desk = Desk(database, Bot(), notify=kinds)  # type: ignore[arg-type]
    desk.ask_for_person(conversation, "urgent")
    desk.close()
    return conversation


def test_a_letter_says_who_waits_and_where_and_quotes_nobody(database: Database, post_office: PostOffice) -> None:
    conversation = ask(database, "email")
    (notice,) = due(database, datetime.now(UTC))
    assert Courier(database, {"email": mail(post_office)}).go_round(datetime.now(UTC)) == 1
    (letter,) = post_office.letters
    assert letter["Subject"] == "A customer waits: has something urgent"
    assert (letter["From"], letter["To"]) == ("bot@shop.test", "team@shop.test, lea@shop.test")
    assert letter["Frontdesk-Id"] == notice.id and notice.id in letter["Message-ID"]
    said = letter.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert f"https://chat.shop.test/console/inbox/{conversation}" in said
    assert post_office.signed_in and due(database, datetime.now(UTC)) == []


def test_what_a_mail_server_refuses_comes_later_under_the_same_id(database: Database, post_office: PostOffice) -> None:
    ask(database, "email")
    (notice,) = due(database, datetime.now(UTC))
    post_office.refuse = 1
    courier = Courier(database, {"email": mail(post_office)})
    assert courier.go_round(datetime.now(UTC)) == 0
    (letter,) = undelivered(database)
    assert "451 the disk is full" in letter.problem and not letter.given_up
    assert courier.go_round(datetime.now(UTC)) == 0, "not before its time"
    assert courier.go_round(datetime.now(UTC) + timedelta(seconds=11)) == 1
    assert [one["Frontdesk-Id"] for one in post_office.letters] == [notice.id]


def test_who_of_the_team_gets_no_letter_is_told_in_the_log(
    database: Database, post_office: PostOffice, caplog: pytest.LogCaptureFixture
) -> None:
    """The others have it, so it is not sent again; without a word nobody would ever find the slip in the settings."""
    ask(database, "email")
    post_office.unknown = {"lea@shop.test"}
    assert Courier(database, {"email": mail(post_office)}).go_round(datetime.now(UTC)) == 1
    assert len(post_office.letters) == 1
    (told,) = (record.getMessage() for record in caplog.records if record.name == "bot.delivery")
    assert "lea@shop.test" in told and "550 nobody here" in told and "mail.to" in told and "team@" not in told


def test_a_server_without_starttls_gets_no_password(database: Database, post_office: PostOffice) -> None:
    ask(database, "email")
    Courier(database, {"email": mail(post_office, security="starttls")}).go_round(datetime.now(UTC))
    assert post_office.letters == post_office.signed_in == []
    assert "STARTTLS" in undelivered(database)[0].problem


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_letter_over_tls_goes_only_to_a_server_that_proves_who_it_is(
    database: Database, tmp_path: Path, security: str
) -> None:
    """Three servers: one whom nobody vouches for, one with the certificate of another, and the right one."""
    ours, other = certificate(tmp_path, "IP:127.0.0.1"), certificate(tmp_path, "DNS:mail.example")
    trust = ssl.create_default_context(cafile=ours)
    trust.load_verify_locations(other)
    ask(database, "email")
    now = datetime.now(UTC)
    for number, (shown, trusted, why) in enumerate(
        [(ours, None, "self-signed certificate"), (other, trust, "not valid for '127.0.0.1'")]
    ):
        with encrypted_office(security, shown) as server:
            courier = Courier(database, {"email": mail(server, trusted, security=security)})
            assert courier.go_round(now + timedelta(hours=number)) == 0
            assert server.letters == server.signed_in == [], "no password before it is known who hears it"
            (letter,) = undelivered(database)
            assert letter.problem.startswith(f"127.0.0.1:{server.server_address[1]}: its certificate is refused: ")
            assert why in letter.problem and "[mail]" in letter.problem
    with encrypted_office(security, ours) as server:
        courier = Courier(database, {"email": mail(server, trust, security=security)})
        assert courier.go_round(now + timedelta(hours=3)) == 1
        assert len(server.letters) == len(server.signed_in) == 1 and server.encrypted == [True]


def test_a_call_is_signed_over_its_moment_and_body(database: Database, receiver: Receiver) -> None:
    conversation = ask(database, "webhook")
    call = caller(f"http://{receiver.place}/hook?a=1", SECRET, (receiver.place,))
    assert Courier(database, {"webhook": call}).go_round(datetime.now(UTC)) == 1
    ((headers, body),) = receiver.calls
    signed = hmac.new(SECRET.encode(), f"{headers['Frontdesk-Timestamp']}.".encode() + body, hashlib.sha256)
    assert headers["Frontdesk-Signature"] == f"v1={signed.hexdigest()}"
    assert abs(int(headers["Frontdesk-Timestamp"]) - time.time()) < 60
    told = json.loads(body)
    assert told.pop("asked_at") and told == {
        "id": headers["Frontdesk-Id"],
        "event": "handover.asked",
        "conversation_id": conversation,
        "reason": "urgent",
        "site": "",
    }


@pytest.mark.parametrize("answer", [500, 404, 302])
def test_a_call_that_is_not_taken_is_made_again(database: Database, receiver: Receiver, answer: int) -> None:
    """A redirect is not followed: it leads where nobody checked."""
    ask(database, "webhook")
    receiver.answers = [answer]
    courier = Courier(database, {"webhook": caller(f"http://{receiver.place}/", SECRET, (receiver.place,))})
    now = datetime.now(UTC)
    assert courier.go_round(now) == 0 and str(answer) in undelivered(database)[0].problem
    assert courier.go_round(now + timedelta(seconds=11)) == 1
    assert len({headers["Frontdesk-Id"] for headers, _ in receiver.calls}) == 1 and len(receiver.calls) == 2


def test_private_addresses_are_not_called_unless_named(database: Database, receiver: Receiver) -> None:
    ask(database, "webhook")
    Courier(database, {"webhook": caller(f"http://{receiver.place}/", SECRET)}).go_round(datetime.now(UTC))
    assert receiver.calls == []
    assert f'webhook.private = ["{receiver.place}"]' in undelivered(database)[0].problem


@pytest.mark.parametrize("url", ["ftp://example.com/", "javascript:alert(1)", "http://user@example.com/", "nonsense"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(FrontdeskError, match=r"webhook\.url"):
        caller(url, SECRET)


def test_one_way_that_fails_does_not_hold_up_the_other(database: Database, receiver: Receiver) -> None:
    ask(database, "email", "webhook")

    def broken(notice: object) -> None:
        raise ValueError("a fault of ours")

    call = caller(f"http://{receiver.place}/", SECRET, (receiver.place,))
    assert Courier(database, {"email": broken, "webhook": call}).go_round(datetime.now(UTC)) == 1
    assert "ValueError" in undelivered(database)[0].problem


@pytest.mark.slow
def test_the_courier_delivers_by_itself_until_it_is_stopped(database: Database, receiver: Receiver) -> None:
    courier = Courier(database, {"webhook": caller(f"http://{receiver.place}/", SECRET, (receiver.place,))})
    thread = threading.Thread(target=courier.run)
    thread.start()
    ask(database, "webhook")
    wait_until(lambda: receiver.calls)
    courier.stop()
    thread.join(PATIENCE)
    assert len(receiver.calls) == 1 and not thread.is_alive()


def test_a_mail_server_that_hangs_does_not_hold_up_the_webhook(database: Database, receiver: Receiver) -> None:
    """It takes the connection and says nothing; more letters are due than one round takes."""
    for _ in range(25):
        ask(database, "email")
    ask(database, "webhook")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = MailServer("127.0.0.1", silent.getsockname()[1], "none", "", "", "bot@shop.test", ("team@shop.test",))
        call = caller(f"http://{receiver.place}/", SECRET, (receiver.place,))
        courier = Courier(database, {"email": mailer(server, "https://chat.shop.test"), "webhook": call})
        thread = threading.Thread(target=courier.run)
        thread.start()
        hanging, _ = silent.accept()
        try:
            wait_until(lambda: receiver.calls)
            assert len(due(database, datetime.now(UTC), ("email",))) == 20, "the first letter hangs still"
        finally:
            courier.stop()
            hanging.close()
            thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize("refused", [0, 1])
def test_a_letter_goes_once_while_the_record_cannot_be_written(
    tmp_path: Path, post_office: PostOffice, refused: int
) -> None:
    """The team must not get the same letter each second until somebody has made room."""
    post_office.refuse = refused
    with faulty_disk() as disk, open_record(tmp_path) as database:
        ask(database, "email")
        courier = Courier(database, {"email": mail(post_office)})
        now = datetime.now(UTC)
        disk.fault = {"write": FULL}
        for _ in range(3):
            with pytest.raises(RecordUnavailable):
                courier.go_round(now)
        assert (len(post_office.letters), post_office.refuse) == (1 - refused, 0)
        disk.fault = {}
        assert courier.go_round(now) == 1 - refused
        assert due(database, now) == [] and ["451" in one.problem for one in undelivered(database)] == [True] * refused
        assert courier.go_round(now + timedelta(seconds=11)) == refused
    assert len(post_office.letters) == 1


def test_a_hand_over_by_the_bot_is_notified_too(database: Database) -> None:
    conversation = open_conversation(database)
    desk = Desk(database, Bot(), notify=("email",))  # type: ignore[arg-type]
    desk.answer(message(conversation, "1", "person"))
    desk.answer(message(conversation, "2", "person"))
    desk.close()
    assert [json.loads(notice.payload)["reason"] for notice in due(database, datetime.now(UTC))] == ["asked"]
