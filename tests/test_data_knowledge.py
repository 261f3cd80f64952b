"""The sample company's articles and playbook agree with each other: what exists, what is linked, which numbers stand.

Owns no product behaviour: it guards `data/knowledge` and `data/playbook.toml` against edits of one without the other.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from bot.conversation.entities import KINDS
from bot.conversation.playbook import Intent, Playbook, load_playbook

DATA = Path(__file__).parents[1] / "data"
KNOWLEDGE = DATA / "knowledge"
MARKDOWN_LINK = re.compile(r"\]\(([^)\s]+)\)")
HTML_LINK = re.compile(r'href="([^"]+)"')
NUMBER = re.compile(r"\d+(?:\.\d+)?")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")


@pytest.fixture(scope="module")
def playbook() -> Playbook:
    return load_playbook(DATA / "playbook.toml", articles=_sources())


def _sources() -> set[str]:
    return {path.relative_to(KNOWLEDGE).as_posix() for path in KNOWLEDGE.rglob("*") if path.is_file()}


def _dead_links(folder: Path) -> list[str]:
    """Relative links in Markdown and HTML below `folder` that lead to no file."""
    dead: list[str] = []
    for path in sorted(folder.rglob("*")):
        pattern = {".md": MARKDOWN_LINK, ".html": HTML_LINK}.get(path.suffix)
        for link in pattern.findall(path.read_text(encoding="utf-8")) if pattern else ():
            site_menu = link.startswith(("/", "#", "http", "mailto:"))
            if not site_menu and not (path.parent / link.split("#")[0]).is_file():
                dead.append(f"{path.relative_to(folder)}: {link}")
    return dead


def _numbers(text: str) -> set[str]:
    return set(NUMBER.findall(THOUSANDS.sub("", text)))


def _numbers_missing(intent: Intent, language: str, folder: Path) -> set[str]:
    """Numbers that the approved answer says and its article, in that language where there is one, does not."""
    answer = re.sub(r"\{\w+\}", "", intent.answer.in_language(language))
    own = folder / language / intent.article
    article = own if own.is_file() else folder / intent.article
    return _numbers(answer) - _numbers(article.read_text(encoding="utf-8"))


def test_knowledge_has_the_promised_articles_of_every_format() -> None:
    kinds = Counter(Path(source).suffix for source in _sources())
    chinese = [source for source in _sources() if source.startswith("zh/")]
    assert kinds[".md"] - len(chinese) >= 44
    assert len(chinese) >= 12
    assert (kinds[".html"], kinds[".pdf"], kinds[".docx"], kinds[".csv"]) == (3, 2, 2, 1)


def test_every_chinese_article_has_an_english_one_at_the_same_path() -> None:
    assert not {source.removeprefix("zh/") for source in _sources() if source.startswith("zh/")} - _sources()


def test_every_markdown_article_has_one_title_and_headings() -> None:
    for path in KNOWLEDGE.rglob("*.md"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("# ") and sum(line.startswith("# ") for line in lines) == 1, path
        assert sum(line.startswith("## ") for line in lines) >= 2, path


def test_article_titles_are_unique() -> None:
    titles = Counter(path.read_text(encoding="utf-8").splitlines()[0] for path in KNOWLEDGE.rglob("*.md"))
    assert [title for title, count in titles.items() if count > 1] == []


def test_no_article_links_to_a_missing_one() -> None:
    assert _dead_links(KNOWLEDGE) == []


def test_a_dead_link_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text("See [two](two.md) and [home](/home).", encoding="utf-8")
    (tmp_path / "page.html").write_text('<a href="gone.md">gone</a>', encoding="utf-8")
    assert _dead_links(tmp_path) == ["one.md: two.md", "page.html: gone.md"]


def test_quick_answers_have_unique_ids_and_no_empty_cell() -> None:
    with (KNOWLEDGE / "quick-answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == len(rows) >= 20
    assert all(row["question"].strip() and row["answer"].strip() for row in rows)


def test_playbook_loads_against_the_articles_and_has_the_promised_kinds(playbook: Playbook) -> None:
    kinds = Counter(intent.kind for intent in playbook.intents)
    assert (kinds["answer"], kinds["hand_over"], kinds["small_talk"]) == (29, 4, 6)
    assert {slot.kind for slot in playbook.slots} <= set(KINDS)


def test_every_answer_intent_cites_an_article(playbook: Playbook) -> None:
    assert [intent.name for intent in playbook.intents if intent.kind == "answer" and not intent.article] == []


def test_every_wording_is_written_in_both_languages(playbook: Playbook) -> None:
    wordings = [(intent.name, text) for intent in playbook.intents for text in (intent.title, intent.answer)]
    wordings += [(slot.name, text) for slot in playbook.slots for text in (slot.ask, slot.invalid)]
    for name, wording in wordings:
        assert [language for language, _ in wording.said] == ["en", "zh"], name
        assert re.search(r"[\u4e00-\u9fff]", wording.in_language("zh")), name
        assert not re.search(r"[\u4e00-\u9fff]", wording.in_language("en")), name


def test_every_intent_has_five_to_eight_examples_a_language(playbook: Playbook) -> None:
    for intent in playbook.intents:
        counts = Counter(language for language, _ in intent.examples)
        assert all(5 <= counts[language] <= 8 for language in ("en", "zh")), intent.name


def test_every_slot_is_named_in_the_answer_that_asks_for_it(playbook: Playbook) -> None:
    for intent in playbook.intents:
        for slot in intent.slots:
            assert all(f"{{{slot}}}" in text for _, text in intent.answer.said), (intent.name, slot)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_approved_answers_say_no_number_that_their_article_does_not(playbook: Playbook, language: str) -> None:
    wrong = {
        intent.name: missing
        for intent in playbook.intents
        if intent.article and (missing := _numbers_missing(intent, language, KNOWLEDGE))
    }
    assert wrong == {}


def test_a_changed_deadline_in_an_article_is_noticed(playbook: Playbook, tmp_path: Path) -> None:
    intent = next(intent for intent in playbook.intents if intent.name == "return_policy")
    article = tmp_path / intent.article
    article.parent.mkdir(parents=True)
    text = (KNOWLEDGE / intent.article).read_text(encoding="utf-8")
    article.write_text(text.replace("45 days", "30 days"), encoding="utf-8")
    assert _numbers_missing(intent, "en", tmp_path) == {"45"}


@pytest.mark.parametrize("text", ["LM482913", "lm 482913", "#LM-482913", "订单LM482913到哪了", "LS100200."])
def test_the_order_number_pattern_finds_what_customers_type(playbook: Playbook, text: str) -> None:
    slot = playbook.slot("order_number")
    assert slot is not None and re.search(slot.pattern, text)


@pytest.mark.parametrize("text", ["LM48291", "LM4829134", "XLM482913", "482913", "TN-120"])
def test_the_order_number_pattern_leaves_other_codes_alone(playbook: Playbook, text: str) -> None:
    slot = playbook.slot("order_number")
    assert slot is not None and not re.search(slot.pattern, text)
