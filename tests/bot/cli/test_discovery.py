"""Proposals through the command line: what accepting writes, what it refuses, and what training then reads."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bot.cli import assembly, learning
from bot.conversation.playbook import load_playbook
from bot.settings import load_settings
from finetune.examples import OUT_OF_SCOPE, Example
from finetune.proposal_files import file_proposals, read_open
from finetune.proposals import AnswerProposal, Asked, IntentProposal, LabelProposal, MergeProposal, Proposal, row_key
from tests.bot.cli.conftest import Ran, Run
from tests.bot.cli.test_bad_input import refused
from tests.bot.conversation.fakes import COMPANY

TALK = (("customer", "I bought a lamp"), ("agent", "Which one?"))
ANSWER = AnswerProposal(
    "answers/bulb_size-0123abcd",
    "bulb_size",
    (("en", "Which bulb fits?"), ("zh", "用什么灯泡？")),
    (("en", 'E27 fits all our "Tide" lamps.\nLED only.'), ("zh", "我们的灯都用 E27 灯泡。")),
    (Asked("which bulb do i need"), Asked("灯泡多大"), Asked("and for the blue one?", TALK)),
    ("E27, LED.",),
    7,
    0.7,
    "",
)
INTENT = IntentProposal("intents/wall_mount-0123abcd", "wall_mount", False, (Asked("can it hang on a wall"),), 6, 0.6)
CHINESE = IntentProposal("intents/取消-0123abcd", "cancel_order", True, (Asked("帮我把刚才那单撤掉吧"),), 5, 0.6)
WRONG = Example("the lamp flickers", "cancel_order")
LABEL = LabelProposal(
    "labels/a-b-0123abcd", row_key(WRONG), Asked(WRONG.text), "cancel_order", "out_of_scope", "", 0.1, 0.9, 1.0
)
MERGE = MergeProposal("merges/a-b-0123abcd", "flicker", "wall_mount", (12, 30), 0.55, (("flicker", "x"),))


@pytest.fixture
def company(home: Path, tmp_path: Path) -> Path:
    """The lamp shop with its playbook and three labelled messages; the path of the playbook."""
    playbook = tmp_path / "playbook.toml"
    shutil.copy(COMPANY / "playbook.toml", playbook)
    rows = [{"text": WRONG.text, "intent": WRONG.intent}, {"text": "it blinks", "intent": "flicker"},
            {"text": "can it hang on a wall?", "intent": None}]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "frontdesk.toml").write_text('playbook = "playbook.toml"\nexamples = ["rows.jsonl"]\n')
    return playbook


def put(home: Path, *proposals: Proposal) -> None:
    file_proposals(home / "proposals", proposals)


def file_of(home: Path, proposal: Proposal) -> Path:
    return home / "proposals" / f"{proposal.id}.toml"


def test_an_accepted_answer_is_an_intent_of_the_playbook(frontdesk: Run, home: Path, company: Path) -> None:
    before = company.read_text("utf-8")
    put(home, ANSWER)
    assert frontdesk("proposals", "accept", ANSWER.id).status == 0
    assert company.read_text("utf-8").startswith(before.rstrip())
    intent = load_playbook(company).intent("bulb_size")
    assert intent is not None
    assert (intent.title.said, intent.answer.said) == (ANSWER.title, ANSWER.answer)
    assert intent.examples == (("en", "which bulb do i need"), ("zh", "灯泡多大"))
    rows = learning.training_rows(load_settings(), None).examples
    assert [(r.text, r.answer) for r in rows if r.intent == "bulb_size" and r.history] == [
        ("and for the blue one?", ANSWER.answer[0][1])
    ]


def test_accepting_twice_is_accepting_once(frontdesk: Run, home: Path, company: Path) -> None:
    put(home, ANSWER)
    frontdesk("proposals", "accept", ANSWER.id)
    after = company.read_bytes()
    ran = frontdesk("proposals", "accept", ANSWER.id)
    assert ran.status == 0 and "before" in ran.out and company.read_bytes() == after


def test_a_kill_between_playbook_and_file_is_healed_by_accepting_again(
    frontdesk: Run, home: Path, company: Path
) -> None:
    put(home, ANSWER)
    file = file_of(home, ANSWER)
    content = file.read_bytes()
    frontdesk("proposals", "accept", ANSWER.id)
    after = company.read_bytes()
    shutil.rmtree(home / "proposals" / "accepted")
    file.write_bytes(content)
    assert frontdesk("proposals", "accept", ANSWER.id).status == 0
    assert company.read_bytes() == after and not file.exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"answer": (("en", "E27."), ("zh", ""))}, ("answer.zh", "is empty")),
        ({"title": (("en", "Which bulb?"),)}, ("title.zh", "is empty")),
        ({"intent": "order_status"}, ("two intents of this name",)),
        ({"intent": "Bulb size"}, ("must have only a-z",)),
        ({"answer": (("en", "Order {order_number}"), ("zh", "好"))}, ("order_number", "slots")),
        ({"title": (("en", "a"), ("zh", "b"), ("fr", "c"))}, ("title.fr", "unknown key")),
        ({"asked": (Asked("Track my package"),)}, ("has no example",)),
    ],
    ids=["answer left empty", "title missing", "name taken", "name not allowed", "placeholder", "language", "examples"],
)
def test_an_answer_that_the_playbook_cannot_hold_changes_nothing(
    frontdesk: Run, home: Path, company: Path, change: dict[str, object], named: tuple[str, ...]
) -> None:
    proposal = replace(ANSWER, **change)  # type: ignore[arg-type]
    put(home, proposal)
    before, inside = company.read_bytes(), sorted(company.parent.iterdir())
    refused(frontdesk("proposals", "accept", proposal.id), str(file_of(home, proposal)), *named)
    assert company.read_bytes() == before and sorted(company.parent.iterdir()) == inside
    assert file_of(home, proposal).exists() and not (home / "proposals" / "accepted").exists()


def test_a_playbook_that_does_not_read_is_not_written(frontdesk: Run, home: Path, company: Path) -> None:
    put(home, ANSWER)
    company.write_text("[company")
    refused(frontdesk("proposals", "accept", ANSWER.id), "playbook.toml", "not valid TOML")
    company.unlink()
    refused(frontdesk("proposals", "accept", ANSWER.id), "playbook.toml")
    assert not company.exists() and file_of(home, ANSWER).exists()


def test_the_playbook_keeps_its_line_ends_and_mode(frontdesk: Run, home: Path, company: Path) -> None:
    company.write_bytes(company.read_bytes().replace(b"\n", b"\r\n"))
    company.chmod(0o640)
    put(home, ANSWER)
    assert frontdesk("proposals", "accept", ANSWER.id).status == 0
    assert company.read_bytes().count(b"\n") == company.read_bytes().count(b"\r\n")
    assert company.stat().st_mode & 0o777 == 0o640
    assert load_playbook(company).intent("bulb_size") is not None


def test_training_reads_what_was_accepted(frontdesk: Run, home: Path, company: Path) -> None:
    settings = load_settings()
    before = {row.text: row.intent for row in learning.training_rows(settings, None).examples}
    assert before["the lamp flickers"] == "cancel_order" and before["it blinks"] == "flicker"
    put(home, INTENT, LABEL, MERGE)
    assert {row.text: row.intent for row in learning.training_rows(settings, None).examples} == before, (
        "open ones change nothing"
    )
    assert frontdesk("proposals", "accept", INTENT.id, LABEL.id, MERGE.id).status == 0
    after = {row.text: row.intent for row in learning.training_rows(settings, None).examples}
    assert after["the lamp flickers"] == OUT_OF_SCOPE and after["it blinks"] == "wall_mount"
    assert after["can it hang on a wall?"] == OUT_OF_SCOPE, "a label that is there stays"
    (home / "proposals" / "accepted" / f"{LABEL.id}.toml").unlink()
    assert {r.text: r.intent for r in learning.training_rows(settings, None).examples}[
        "the lamp flickers"
    ] == "cancel_order"


def test_chinese_messages_that_were_accepted_reach_the_phrase_book(frontdesk: Run, home: Path, company: Path) -> None:
    """The encoder is not trained on Chinese: without the phrase book accepting would change nothing."""
    settings = load_settings()
    playbook = load_playbook(company)
    (asked,) = CHINESE.asked
    assert assembly.open_phrases(settings, playbook).exact(asked.text) != "cancel_order"
    put(home, CHINESE)
    assert frontdesk("proposals", "accept", CHINESE.id).status == 0
    assert assembly.open_phrases(settings, playbook).exact(asked.text) == "cancel_order"


def test_a_rejected_proposal_is_gone_and_stays_gone(frontdesk: Run, home: Path, company: Path) -> None:
    put(home, INTENT, LABEL)
    assert frontdesk("proposals", "reject", INTENT.id).status == 0
    assert "before" in frontdesk("proposals", "reject", INTENT.id).out
    assert read_open(home / "proposals").open[0].proposal == LABEL
    put(home, INTENT, LABEL)
    assert not file_of(home, INTENT).exists()
    refused(frontdesk("proposals", "accept", INTENT.id), INTENT.id, "was rejected")
    frontdesk("proposals", "accept", LABEL.id)
    refused(frontdesk("proposals", "reject", LABEL.id), LABEL.id, "was accepted")


def test_what_can_be_decided_is_and_the_rest_is_named(frontdesk: Run, home: Path, company: Path) -> None:
    put(home, INTENT, LABEL)
    text = file_of(home, LABEL).read_text().replace("out_of_scope", "throw_away")
    file_of(home, LABEL).write_text(text)
    ran = frontdesk("proposals", "accept", INTENT.id, LABEL.id, "intents/none-0", "--json")
    said = json.loads(ran.out)
    assert ran.status == 2 and len(said["accepted"]) == 1 and len(said["problems"]) == 2
    assert "action" in said["problems"][0] and "throw_away" in said["problems"][0]
    assert not file_of(home, INTENT).exists() and file_of(home, LABEL).read_text() == text


def test_the_list_shows_what_is_open_the_strongest_first(frontdesk: Run, home: Path, company: Path) -> None:
    assert "frontdesk discover" in frontdesk("proposals", "list").out
    stronger = replace(INTENT, id="intents/dimmer-1", intent="dimmer", conversations=60, asked=(Asked("can i dim it"),))
    put(home, ANSWER, INTENT, stronger, LABEL, MERGE)
    file = file_of(home, MERGE)
    file.write_text(file.read_text() + "\n# looks right")
    (home / "proposals" / "intents" / "odd.toml").write_text("?")
    ran = frontdesk("proposals", "list")
    ids = [line.split(" ")[0] for line in ran.out.splitlines() if line.startswith(tuple("ailm")) and "/" in line]
    assert ids == [ANSWER.id, stronger.id, INTENT.id, LABEL.id, MERGE.id]
    assert f"{MERGE.id} (edited)" in ran.out and "odd.toml" in ran.err
    assert "open: 1 answers, 2 intents, 1 labels, 1 merges" in ran.out
    said = json.loads(frontdesk("proposals", "list", "--json").out)
    assert [one["proposal"]["id"] for one in said["open"]] == ids and len(said["problems"]) == 1
    assert [one["edited"] for one in said["open"]] == [False, False, False, False, True]


def test_a_damaged_decision_stops_training_with_its_file(frontdesk: Run, home: Path, company: Path) -> None:
    put(home, INTENT)
    frontdesk("proposals", "accept", INTENT.id)
    kept = home / "proposals" / "accepted" / f"{INTENT.id}.toml"
    kept.write_text("messages = 3")
    ran = frontdesk("train")
    assert ran.status == 2 and str(kept) in ran.err and "delete it to take the decision back" in ran.err


def test_discovering_in_nothing_says_what_to_do(frontdesk: Run, home: Path) -> None:
    refused(frontdesk("discover"), "nothing to look at", "frontdesk transcripts import")
    assert not (home / "proposals").exists()


QUESTIONS = {
    "bulb": ("which bulb do i need", "what light bulb fits the lamp", "bulb size for your lamps?",
             "which light bulb goes in", "do you know what bulb fits", "what kind of bulb does it take"),
    "ship": ("do you ship to norway", "can you deliver to norway please", "is shipping to norway possible",
             "will you send it to norway", "delivery to norway, do you do that", "can a lamp be sent to norway"),
    "clean": ("how do i clean the shade", "what cleans a dirty lamp shade", "cleaning the fabric shade, how?",
              "can i wash the shade", "the shade is dusty, how do i clean it", "best way to clean a lampshade"),
}  # fmt: skip
REPLIES = {
    "bulb": "All our lamps take an E27 bulb, LED only.",
    "ship": "Yes, we ship to Norway within five working days.",
    "clean": "Wipe the shade with a dry cloth and use no water.",
}


def chats(path: Path) -> Path:
    rows = [
        {
            "id": f"{kind}{n}",
            "turns": [{"speaker": "customer", "text": text}, {"speaker": "agent", "text": REPLIES[kind]}],
        }
        for kind, texts in QUESTIONS.items()
        for n, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.slow
def test_discovery_end_to_end_on_very_little(frontdesk: Run, home: Path, company: Path, tmp_path: Path) -> None:
    """Eighteen chats: three answers are found, and found once; accepted, they are answered and not found again."""
    assert frontdesk("transcripts", "import", chats(tmp_path / "chats.jsonl")).status == 0
    ran = frontdesk("discover", "--json")
    assert ran.status == 0, ran.err
    said = json.loads(ran.out)
    assert len(said["new"]) == 3 and all(name.startswith("answers/") for name in said["new"])
    found = {filed.proposal.id: filed for filed in read_open(home / "proposals").open}
    assert {filed.proposal.answer[0][1] for filed in found.values()} == set(REPLIES.values())  # type: ignore[union-attr]
    before = {p: p.read_bytes() for p in (home / "proposals").rglob("*.toml")}
    again = json.loads(frontdesk("discover", "--json").out)
    assert again["new"] == [] and sorted(again["kept"]) == sorted(said["new"])
    assert {p: p.read_bytes() for p in (home / "proposals").rglob("*.toml")} == before
    assert {path.name for path in home.iterdir()} == {"proposals", "transcripts"}

    for filed in found.values():
        filed.file.write_text(filed.file.read_text("utf-8").replace('.zh = ""', '.zh = "好的"'), "utf-8")
    ran: Ran = frontdesk("proposals", "accept", *found)
    assert ran.status == 0, ran.err
    assert len(load_playbook(company).intents) == len(load_playbook(COMPANY / "playbook.toml").intents) + 3
    assert json.loads(frontdesk("discover", "--json").out)["new"] == []
