"""What may be uploaded, under which name it is kept, and that forgetting deletes it."""

from __future__ import annotations

import os
import resource
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.storage.conversations import UnknownConversation
from bot.storage.database import Database
from bot.storage.faults import RecordUnavailable
from bot.storage.files import LARGEST_FILE, MOST_FILES, TYPES, FileRefused, Files, safe_name, type_of
from bot.storage.turns import store_turn
from tests.bot.storage.faulty_disk import FULL, IOERR_FSYNC, faulty_disk
from tests.bot.storage.sample import message, open_conversation, open_record, turn_for

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_record(tmp_path) as database:
        yield database


@pytest.fixture
def files(database: Database, tmp_path: Path) -> Files:
    return Files(database, tmp_path / "files")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 20, "image/jpeg"),
        (b"GIF89a" + b"\0" * 20, "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "application/pdf"),
        ("Größe 字\r\n\tline".encode(), "text/plain"),
        (b"<html><script>alert(1)</script>", "text/plain"),  # kept and served as text, never as a page
        (b"MZ\x90\0\x03", None),
        (b"\x7fELF\x02\x01", None),
        (b"PK\x03\x04\x14\0", None),
        (b"\xff\xfeh\0i\0", None),
        (b"\0" * 100, None),
        (b"RIFF\x10\0\0\0AVI LIST", None),
    ],
)
def test_a_file_is_what_its_content_is(content: bytes, kind: str | None) -> None:
    assert type_of(content) == kind


@pytest.mark.parametrize(
    ("name", "kind", "kept"),
    [
        ("photo.PNG", "image/png", "photo.png"),
        ("invoice.pdf.exe", "application/pdf", "invoice.pdf.exe.pdf"),
        ("page.html", "text/plain", "page.html.txt"),
        ("../../etc/passwd", "text/plain", "passwd.txt"),
        ("C:\\Users\\anna\\a.jpeg", "image/jpeg", "a.jpeg"),
        ("", "image/gif", "file.gif"),
        (".png", "image/png", "png.png"),
        ("a\x00b\u202egnp.exe", "image/png", "abgnp.exe.png"),
        ('<img src=x onerror="x">', "image/png", "_img src=x onerror=_x_.png"),
        ("请看.png", "image/png", "请看.png"),
    ],
)
def test_a_name_has_no_folder_no_trick_and_the_ending_of_its_content(name: str, kind: str, kept: str) -> None:
    assert safe_name(name, kind) == kept


@given(st.text(max_size=300), st.sampled_from(sorted(TYPES)))
def test_any_name_becomes_a_plain_one(name: str, kind: str) -> None:
    kept = safe_name(name, kind)
    assert kept.endswith(TYPES[kind]) and len(kept) <= 90
    assert not set(kept) & set('/\\\0\r\n"<>')
    assert os.path.basename(kept) == kept and not kept.startswith(".")


def test_a_file_is_kept_in_its_place_under_a_name_nobody_can_guess(
    database: Database, files: Files, tmp_path: Path
) -> None:
    conversation = open_conversation(database)
    store_turn(database, turn_for(message(conversation, "1")))
    stored = files.keep(conversation, "photo.png", PNG)
    assert (stored.name, stored.bytes, stored.type, stored.after) == ("photo.png", len(PNG), "image/png", 1)
    assert files.find(stored.id) == stored and files.of(conversation) == (stored,)
    (kept,) = (tmp_path / "files").iterdir()
    assert kept == files.path(stored) and kept.name == stored.id and len(stored.id) == 22
    assert kept.read_bytes() == PNG
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert files.find("unknown") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"MZ\x90\0", "image/png"), (PNG + b"\0" * LARGEST_FILE, "at most 10,485,760")],
)
def test_what_is_refused_leaves_nothing(
    database: Database, files: Files, tmp_path: Path, content: bytes, words: str
) -> None:
    with pytest.raises(FileRefused, match=words):
        files.keep(open_conversation(database), "x", content)
    assert not (tmp_path / "files").exists()


def test_a_conversation_takes_so_many_files_and_an_unknown_one_none(
    database: Database, files: Files, tmp_path: Path
) -> None:
    conversation = open_conversation(database)
    for _ in range(MOST_FILES):
        files.keep(conversation, "a.png", PNG)
    with pytest.raises(FileRefused, match="20 files already"):
        files.keep(conversation, "a.png", PNG)
    with pytest.raises(UnknownConversation):
        files.keep("unknown", "a.png", PNG)
    assert len(list((tmp_path / "files").iterdir())) == MOST_FILES


@pytest.mark.parametrize(("fault", "left"), [({"write": FULL}, 0), ({"sync": IOERR_FSYNC}, 1)])
def test_a_file_whose_row_is_not_stored_leaves_nothing_unless_the_row_may_turn_up(
    tmp_path: Path, fault: dict[str, int], left: int
) -> None:
    with faulty_disk() as disk, open_record(tmp_path) as database:
        files, conversation = Files(database, tmp_path / "files"), open_conversation(database)
        disk.fault = fault
        with pytest.raises(RecordUnavailable):
            files.keep(conversation, "a.png", PNG)
        assert len(list((tmp_path / "files").iterdir())) == left


def test_a_folder_that_takes_no_file_is_told_as_what_may_pass(database: Database, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("something else")
    with pytest.raises(RecordUnavailable, match="cannot be written"):
        Files(database, tmp_path / "files").keep(open_conversation(database), "a.png", PNG)


def test_what_was_written_of_a_file_that_does_not_fit_is_gone(database: Database, files: Files, tmp_path: Path) -> None:
    """As on a full disk: it must not be fuller with each try."""
    conversation = open_conversation(database)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(RecordUnavailable, match="cannot be written"):
            files.keep(conversation, "a.png", PNG + b"\0" * 2**21)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handled)
    assert list((tmp_path / "files").iterdir()) == []
    assert files.keep(conversation, "a.png", PNG).bytes == len(PNG)


def test_the_sweep_takes_what_has_no_row_and_nothing_else(database: Database, files: Files, tmp_path: Path) -> None:
    assert files.sweep() == 0
    stored = files.keep(open_conversation(database), "a.png", PNG)
    left, fresh, foreign = (tmp_path / "files" / name for name in ("x" * 22, "y" * 22, "notes.txt"))
    for path in (left, fresh, foreign):
        path.write_bytes(PNG)
    long_ago = time.time() - 7200
    for path in (left, foreign, files.path(stored)):
        os.utime(path, (long_ago, long_ago))
    assert files.sweep() == 1
    assert not left.exists() and fresh.exists() and foreign.exists() and files.path(stored).exists()
