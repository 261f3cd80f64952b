"""The sample validation and evaluation sets: their shares, their references, and that training never saw them.

Near copies are found here with the standard library alone, so that no code under test judges its own leak.
"""

from __future__ import annotations

import csv
import json
import re
import tomllib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

DATA = ROOT / "data"
Row = dict[str, Any]
SIZES = {"validation": 150, "evaluation": 300}


def jsonl(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


SETS = {name: jsonl(DATA / f"{name}.jsonl") for name in SIZES}
PLAYBOOK = tomllib.loads((DATA / "playbook.toml").read_text("utf-8"))


def normal(text: str) -> str:
    """Lower case, no punctuation, every number alike: another order number does not make another question."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"\s+", " ", re.sub(r"[^\w\s]|_", "", re.sub(r"\d+", "0", text))).strip()


def trigrams(text: str) -> frozenset[str]:
    padded = f" {normal(text)} "
    return frozenset(padded[i : i + 3] for i in range(len(padded) - 2))


def tokens(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", normal(text)))


class Known:
    """Texts that must not come back, found through the trigrams they share with a question."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.texts: list[str] = []
        self.grams: list[frozenset[str]] = []
        self.places: dict[str, list[int]] = defaultdict(list)
        self.few_words: dict[frozenset[str], str] = {}
        for text in sorted(set(texts)):
            self.add(text)

    def add(self, text: str) -> None:
        place = len(self.texts)
        self.texts.append(text)
        self.grams.append(trigrams(text))
        for gram in self.grams[place]:
            self.places[gram].append(place)
        if len(tokens(text)) <= 4:
            self.few_words[tokens(text)] = text

    def near(self, text: str) -> str | None:
        """A known text that `text` copies, or None.

        A copy is equal once normal, or shares four fifths of all character trigrams, or differs by a typo or two
        (short texts lose many trigrams to one typo), or, when very short, has the same words in another order.
        """
        if (other := self.few_words.get(tokens(text))) is not None:
            return other
        grams = trigrams(text)
        for place, shared in Counter(p for gram in grams for p in self.places.get(gram, ())).most_common():
            if shared < 0.5 * len(grams):
                break
            overlap = shared / (len(grams) + len(self.grams[place]) - shared)
            other = self.texts[place]
            if overlap >= 0.8:
                return other
            if overlap >= 0.5 and SequenceMatcher(None, normal(text), normal(other), False).ratio() >= 0.9:
                return other
        return None


def copies(questions: Iterable[str], known: Known) -> list[tuple[str, str]]:
    return [(question, other) for question in questions if (other := known.near(question)) is not None]


def training_texts() -> list[str]:
    """Everything a customer says in training data: messages, transcripts, and the playbook's examples and titles."""
    messages = [row["text"] for row in jsonl(DATA / "messages.jsonl")]
    said = [
        turn["text"]
        for conversation in jsonl(DATA / "transcripts.jsonl")
        for turn in conversation["turns"]
        if turn["speaker"] == "customer"
    ]
    examples = [text for intent in PLAYBOOK["intent"] for part in intent["examples"].values() for text in part]
    titles = [title for intent in PLAYBOOK["intent"] for title in intent["title"].values()]
    assert len(messages) >= 900 and len(said) >= 300 and len(examples) >= 75, "the guard must look at the real data"
    return [*messages, *said, *examples, *titles]


@pytest.fixture(scope="module")
def training() -> Known:
    return Known(training_texts())


def sources() -> set[str]:
    """Every source an article may be named by: paths under data/knowledge, and `path.csv#id` for rows."""
    knowledge = DATA / "knowledge"
    found = {str(path.relative_to(knowledge)) for path in knowledge.rglob("*") if path.is_file()}
    for path in knowledge.rglob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            found |= {f"{path.relative_to(knowledge)}#{row['id']}" for row in csv.DictReader(file)}
    return found


def accepted_intents(row: Row) -> list[str]:
    return [*([row["intent"]] if row["intent"] else []), *row.get("intents", [])]


@pytest.mark.parametrize("name", SIZES)
def test_each_set_has_the_promised_size_and_shares(name: str) -> None:
    rows, size = SETS[name], SIZES[name]
    unanswerable = [row for row in rows if not row["answerable"]]
    chinese = [row for row in rows if row["language"] == "zh"]
    assert len(rows) == size
    assert len(unanswerable) == size // 3
    assert len(chinese) == size // 5
    assert 3 * sum(not row["answerable"] for row in chinese) == len(chinese)
    outside = sum(row["why"].startswith("Out of scope") for row in unanswerable)
    inside = sum(row["why"].startswith("Not covered") for row in unanswerable)
    assert outside == inside == len(unanswerable) / 2
    english = [row for row in rows if row["language"] == "en" and row["answerable"]]
    assert 0.12 <= sum("history" in row for row in english) / len(english) <= 0.2


@pytest.mark.parametrize("name", SIZES)
def test_every_row_is_well_formed(name: str) -> None:
    for row in SETS[name]:
        assert set(row) <= {"id", "text", "history", "language", "answerable", "intent", "intents", "articles", "why"}
        assert row["text"].strip() == row["text"] and row["text"] and row["why"], row["id"]
        assert row["language"] == ("zh" if re.search(r"[\u4e00-\u9fff]", row["text"]) else "en"), row["id"]
        assert bool(accepted_intents(row) or row["articles"]) == row["answerable"], row["id"]
        if "history" in row:
            assert 2 <= len(row["history"]) <= 4, row["id"]
            assert [line["speaker"] for line in row["history"]] == ["customer", "agent"] * (len(row["history"]) // 2)


def test_ids_are_unique_over_both_sets() -> None:
    ids = [row["id"] for rows in SETS.values() for row in rows]
    assert len(ids) == len(set(ids))


def unknown_references(rows: Sequence[Row]) -> list[tuple[str, str]]:
    intents, articles = {intent["name"] for intent in PLAYBOOK["intent"]}, sources()
    named = [(row["id"], name) for row in rows for name in accepted_intents(row) if name not in intents]
    return named + [(row["id"], source) for row in rows for source in row["articles"] if source not in articles]


@pytest.mark.parametrize("name", SIZES)
def test_every_intent_and_article_exists(name: str) -> None:
    assert unknown_references(SETS[name]) == []


@pytest.mark.parametrize("name", SIZES)
def test_articles_are_in_the_language_of_the_question(name: str) -> None:
    for row in SETS[name]:
        assert all(source.startswith("zh/") == (row["language"] == "zh") for source in row["articles"]), row["id"]


def test_the_sets_reach_every_intent_and_every_format() -> None:
    reached = {name for rows in SETS.values() for row in rows for name in accepted_intents(row)}
    assert {intent["name"] for intent in PLAYBOOK["intent"]} - reached == set()
    cited = " ".join(source for row in SETS["evaluation"] for source in row["articles"])
    assert all(ending in cited for ending in (".md", ".html", ".pdf", ".docx", ".csv#"))


def test_no_question_is_a_near_copy_of_another() -> None:
    """An elliptical follow-up is compared by its own words too: two rows may not share them."""
    seen = Known()
    for row in (row for rows in SETS.values() for row in rows):
        assert seen.near(row["text"]) is None, (row["id"], row["text"])
        seen.add(row["text"])


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_no_question_nor_a_near_copy_stands_in_training_data(name: str, training: Known) -> None:
    assert copies((row["text"] for row in SETS[name]), training) == []


def swapped(text: str, place: int) -> str:
    """`text` with a typo: two neighbouring characters have changed places."""
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


@pytest.mark.slow
def test_a_planted_copy_is_found(training: Known) -> None:
    """Copies of real training texts, dressed up as they might slip in, turn the leak test red."""
    longer = [text for text in training.texts if len(normal(text)) >= 24]
    assert len(longer) > 500
    for text in longer[::100]:
        typo = swapped(text, len(text) // 2)
        for copy in (text, text.upper() + "!!", typo, re.sub(r"\d", "7", text)):
            assert copies([copy], training), copy


def test_a_planted_copy_of_a_question_is_found_in_new_training_data() -> None:
    """The other way round: somebody adds an evaluation question, with a typo, to the training messages."""
    for row in SETS["evaluation"][::7]:
        if len(normal(row["text"])) < 12:
            continue
        planted = swapped(row["text"], len(row["text"]) // 2)
        assert copies([row["text"]], Known(["where can I buy a kayak", planted])), row["text"]


def test_very_short_copies_are_found_by_their_words_and_strangers_are_not() -> None:
    known = Known(["thanks bot", "谢谢你", "when does my refund for LM482913 arrive?"])
    assert known.near("Bot, thanks!") == "thanks bot"
    assert known.near("谢谢你！") == "谢谢你"
    assert known.near("When does my refund for LM-100200 arrive") is not None
    assert known.near("thanks a lot for the quick reply, bot of mine") is None
    assert known.near("when does my parcel arrive") is None


def test_an_unknown_intent_or_article_is_found() -> None:
    row = {"id": "x", "intent": "order_statsu", "articles": ["returns/nowhere.md", "quick-answers.csv#q99"]}
    assert len(unknown_references([row])) == 3
