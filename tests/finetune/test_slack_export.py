"""Slack exports: threads as conversations, from the zip or its folder, whatever lies in it."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path

import pytest

from finetune import slack_export
from finetune.dialogues import Dialogue, Spoken
from finetune.examples import FinetuneError, Problem
from finetune.slack_export import read_slack

EXPORT = Path(__file__).parent / "fixtures" / "slack"


def packed(path: Path, prefix: str = "", **more: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(EXPORT.rglob("*.json")):
            archive.write(file, prefix + file.relative_to(EXPORT).as_posix())
        for name, content in more.items():
            archive.writestr(name, content)
    return path


def threads(path: Path) -> dict[str, Dialogue]:
    return {found.id: found for found in read_slack(path) if isinstance(found, Dialogue)}


def test_a_thread_is_a_conversation_with_its_opener_as_customer() -> None:
    thread = threads(EXPORT)["help-orders/1772441000.000200"]
    assert thread.turns == (
        Spoken("customer", "Hi @Tom Alder, can I change the address of order LM482913? See my orders & #billing"),
        Spoken("bot", "Thanks, a colleague will reply here."),
        Spoken("agent", "Yes, until the order is packed you can change it under Account > Orders > Edit delivery."),
        Spoken("customer", "Great, thank you Tom! My mail is ann.berg@example.com"),
    )
    assert thread.origin == "slack"
    assert {"Ann Berg", "Tom Alder", "@ann", "@orders"} <= set(thread.names)


def test_a_picture_without_words_and_unknown_kinds_of_messages_say_nothing() -> None:
    thread = threads(EXPORT)["help-orders/1772443000.000100"]
    assert [(turn.speaker, turn.text[:28]) for turn in thread.turns] == [
        ("agent", "@here which of the two label"),
        ("customer", "the left one, please; what d"),
        ("agent", "Just throw the other label a"),
        ("agent", "For everybody: labels stay v"),
    ]
    assert thread.turns[-1].text.endswith("Ask Lena or @Lena Fischer or @user.")


def test_a_deleted_root_and_a_deleted_user_still_leave_the_conversation() -> None:
    thread = threads(EXPORT)["billing/1772450000.000100"]
    assert [turn.speaker for turn in thread.turns] == ["agent", "customer", "agent", "bot"]
    assert "Lena Fischer" in thread.names


def test_messages_nobody_replied_to_are_no_conversations_and_bad_files_are_named() -> None:
    found = list(read_slack(EXPORT))
    assert len([one for one in found if isinstance(one, Dialogue)]) == 3
    (problem,) = (one for one in found if isinstance(one, Problem))
    assert "random/2026-03-02.json" in problem.reason and "not valid JSON" in problem.reason


@pytest.mark.parametrize("prefix", ["", "Acme Slack export Mar 2026/"])
def test_the_zip_reads_as_its_folder(tmp_path: Path, prefix: str) -> None:
    assert threads(packed(tmp_path / "export.zip", prefix)) == threads(EXPORT)


def test_names_that_lead_outside_are_ignored_and_nothing_is_unpacked(tmp_path: Path) -> None:
    day = json.dumps(
        [{"type": "message", "text": "evil", "user": "U9", "ts": f"1.{n}", "thread_ts": "1.1"} for n in (1, 2)]
    ).encode()
    names = ("../2026-01-01.json", "../../etc/2026-01-01.json", "/etc/2026-01-01.json", "C:\\x/2026-01-01.json")
    (tmp_path / "in").mkdir()
    path = packed(tmp_path / "in" / "export.zip", **dict.fromkeys(names, day))
    assert threads(path) == threads(EXPORT)
    assert [one.name for one in tmp_path.rglob("*")] == ["in", "export.zip"]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "secret.json"
    outside.write_text("[]")
    folder = tmp_path / "export"
    (folder / "general").mkdir(parents=True)
    (folder / "users.json").write_text("[]")
    (folder / "general" / "2026-01-01.json").symlink_to(outside)
    with pytest.raises(FinetuneError, match="no folder of a channel"):
        list(read_slack(folder))


def test_a_zip_bomb_is_left_out_by_what_comes_out_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 kB that unpack to more than MAX_FILE, whatever the archive says of its size."""
    monkeypatch.setattr(slack_export, "MAX_FILE", 1_000_000)
    bomb = packed(tmp_path / "bomb.zip", **{"general/2026-01-01.json": b" " * 5_000_000})
    assert bomb.stat().st_size < 50_000
    found = list(read_slack(bomb))
    assert sum(isinstance(one, Dialogue) for one in found) == 3
    assert any(isinstance(one, Problem) and "more than 1,000,000 bytes" in one.reason for one in found)
    monkeypatch.setattr(slack_export, "MAX_UNPACKED", 3_000)
    with pytest.raises(FinetuneError, match="more than 3,000 bytes unpacked"):
        list(read_slack(bomb))


def test_what_is_no_export_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    empty = tmp_path / "empty.zip"
    zipfile.ZipFile(empty, "w").close()
    text = tmp_path / "text.zip"
    text.write_text("hello")
    (tmp_path / "folder").mkdir()
    users = tmp_path / "users.zip"
    with zipfile.ZipFile(users, "w") as archive:
        archive.writestr("users.json", "{}")
        archive.writestr("general/2026-01-01.json", "[]")
    cases = (
        (empty, "no users.json"),
        (text, "not a zip archive"),
        (tmp_path / "folder", "no users.json"),
        (tmp_path / "none.zip", "No such file"),
        (users, "list of users is a JSON dict"),
    )
    for path, reason in cases:
        with pytest.raises(FinetuneError, match=reason) as refused:
            list(read_slack(path))
        assert str(path) in str(refused.value)


def test_a_damaged_or_encrypted_member_is_left_out_by_name(tmp_path: Path) -> None:
    path = packed(tmp_path / "export.zip")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("billing/2026-03-02.json")
    start = info.header_offset + 30 + len(info.filename)
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    found = list(read_slack(path))
    assert sum(isinstance(one, Dialogue) for one in found) == 2
    assert any(isinstance(one, Problem) and "billing/2026-03-02.json" in one.reason for one in found)


def test_a_zip_with_bytes_changed_anywhere_is_refused_or_read(tmp_path: Path) -> None:
    """Headers and directory above all; 6,000 such changes were tried once."""
    path = packed(tmp_path / "export.zip")
    whole = path.read_bytes()
    chance = random.Random(3)
    refused = 0
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 2, 20))):
            content[chance.randrange(len(content) - 700, len(content))] = chance.choice((0, 255, chance.randrange(256)))
        path.write_bytes(content[: chance.choice((len(content), chance.randrange(len(content))))])
        try:
            assert all(isinstance(found, Dialogue | Problem) for found in read_slack(path))
        except FinetuneError as error:
            refused += 1
            assert str(path) in str(error)
    assert 50 < refused < 200
