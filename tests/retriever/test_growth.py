"""A version that takes over what did not change holds what one made from nothing holds, and leaves its files alone."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from retriever import blocks, knowledge_base, lines, vector_index
from retriever.blocks import Blocks
from retriever.keyword_index import KeywordIndex, terms
from retriever.knowledge import Knowledge
from retriever.knowledge_base import KnowledgeBase
from retriever.lines import Lines, in_order, write_lines
from retriever.marks import Column, Marks
from retriever.passages import Query, RetrieverError
from retriever.split import embedded_text
from tests.retriever.hashing import HashingEncoder

WORDS = [
    *("tent", "stove", "lamp", "rope", "kettle", "boots", "refund", "voucher", "parcel", "garden", "window"),
    *("帐篷", "退货", "运费"),
]
TOPICS = ("breakfast", "parking", "dogs", "checkin")


@pytest.fixture(autouse=True)
def growing_from_the_first_row() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lines, "MANY", 0)
        patched.setattr(vector_index, "EXACT", 3)
        yield


def edit(folder: Path, chance: random.Random) -> None:
    """One to three articles come, change, move or go; at times only the time of a file changes."""
    for _ in range(chance.randint(1, 3)):
        names = sorted(folder.glob("*.md"))
        text = " ".join(chance.choices(WORDS, k=8))
        match chance.choice(("new", "new", "change", "move", "go", "touch")):
            case "change" if names:
                chance.choice(names).write_text(f"# {text[:9]}\n\n{text}.\n\n## More\n\n{text[::-1]}.\n", "utf-8")
            case "move" if names:
                chance.choice(names).rename(folder / f"{chance.random():.6f}.md")
            case "go" if len(names) > 4:
                chance.choice(names).unlink()
            case "touch" if names:
                os.utime(chance.choice(names))
            case _:
                (folder / f"{chance.random():.6f}.md").write_text(f"# {text[:12]}\n\n{text}.\n", "utf-8")


def holds_the_same(grown: Knowledge, plain: Knowledge) -> None:
    assert list(grown.documents) == list(plain.documents)
    assert list(grown.passages) == list(plain.passages)
    assert np.array_equal(grown.vectors, plain.vectors)
    assert str(grown._indexes.marks) == str(plain._indexes.marks) == str(Marks.of(list(plain.passages)))
    keywords = grown._indexes.keywords
    for word in WORDS:
        wanted = terms(word)
        rows = keywords.search(wanted, 1000)[1]
        held = [row for row, p in enumerate(plain.passages) if set(wanted) & set(terms(embedded_text(p)))]
        assert sorted(rows.tolist()) == held, word
        for row in held:
            assert keywords.held(wanted, row) == plain._indexes.keywords.held(wanted, row) != ()
    for document in plain.documents:
        assert grown.document(document.source) == document
        assert grown.passages_of(document.source) == plain.passages_of(document.source) != ()
        one, other = (each.search(Query(document.text[:40]), None, 3)[0] for each in (grown, plain))
        assert one.passage.text == other.passage.text


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_grown_versions_hold_what_those_from_nothing_hold(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    folder = tmp_path / "articles"
    folder.mkdir()
    for n in range(20):
        (folder / f"steady{n}.md").write_text(f"# Steady {n}\n\n{' '.join(chance.choices(WORDS, k=12))}.\n", "utf-8")
    base = KnowledgeBase(tmp_path / "grown", HashingEncoder())
    linked = 0
    for step in range(8):
        edit(folder, chance)
        base.ingest([folder])
        plain = KnowledgeBase(tmp_path / f"plain{step}", HashingEncoder())
        plain.ingest([folder])
        holds_the_same(base.load(), plain.load())
        linked += any(file.stat().st_nlink > 1 for file in (tmp_path / "grown" / "versions").rglob("*.lines"))
    assert linked > 2, "hardly anything was taken over: this proves nothing"
    assert {problem for _, problem in base.check()} == {""}, "the versions before are as they were"


@pytest.mark.slow
def test_a_version_reads_on_when_those_it_grew_from_are_gone(tmp_path: Path) -> None:
    folder = tmp_path / "articles"
    folder.mkdir()
    for n in range(10):
        (folder / f"{n}.md").write_text(f"# Shelf {n}\n\nThere is a {WORDS[n]} on it.\n", "utf-8")
    base = KnowledgeBase(tmp_path / "knowledge", HashingEncoder(), kept=1)
    base.ingest([folder])
    first = base.load()
    for n in range(4):
        (folder / f"new{n}.md").write_text(f"# New {n}\n\nThis is a globe {n}.\n", "utf-8")
        base.ingest([folder])
    assert len(base.versions()) == 2
    assert "tent" in base.load().search(Query("tent"), None, 1)[0].passage.text
    assert len(list(first.passages)) == 10 and "boots" in first.search(Query("boots"), None, 1)[0].passage.text


@pytest.mark.slow
def test_a_large_catalogue_smoothes_what_is_new_and_all_of_it_when_much_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knowledge_base, "MANY", 20)
    hotels = {f"Inn{n} House{n}": dict.fromkeys(TOPICS, "yes") for n in range(40)}
    file, base = tmp_path / "hotels.jsonl", KnowledgeBase(tmp_path / "knowledge", HashingEncoder())

    def ingested() -> Knowledge:
        rows = [
            {"id": f"{name}/{topic}", "entity": name, "question": f"{topic} morning terms", "answer": answer}
            for name, said in hotels.items()
            for topic, answer in said.items()
        ]
        file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
        base.ingest([file])
        return base.load()

    def anew() -> Knowledge:
        plain = KnowledgeBase(tmp_path / f"plain{len(list(tmp_path.iterdir()))}", HashingEncoder())
        plain.ingest([file])
        return plain.load()

    def moved(one: Knowledge, other: Knowledge) -> list[str]:
        pairs = zip(one.passages, one.vectors, other.vectors, strict=True)
        return [p.source for p, was, now in pairs if not np.array_equal(was, now)]

    first = ingested()
    assert base.versions()[0].catalogue and moved(first, anew()) == []
    hotels["Inn7 House7"]["parking"] = "in the yard behind the stables"
    second = ingested()
    changed = "hotels.jsonl#Inn7 House7/parking"
    assert moved(second, first) == [changed], "the rest stays where it was drawn"
    row = [p.source for p in second.passages].index(changed)
    assert float(second.vectors[row] @ anew().vectors[row]) > 0.99 * float(anew().vectors[row] @ anew().vectors[row])
    assert second.search(Query("parking at Inn7 House7"), None, 1)[0].passage.source == changed
    made = tmp_path / "knowledge" / "versions" / second.version / "embeddings.00.npy"
    assert made.stat().st_nlink > 1, "what the encoder made of the rest is taken over"
    for n in range(9):
        hotels[f"Lodge{n} Court{n}"] = dict.fromkeys(TOPICS, f"as agreed {n}")
    assert len(ingested().passages) == 196 and base.versions()[0].joined == 37, "a fifth is not new yet"
    hotels["Lodge9 Court9"] = dict.fromkeys(TOPICS, "as agreed")
    third = ingested()
    assert moved(third, anew()) == [] and base.versions()[0].joined == 0, "now so much is new that all are drawn anew"
    hotels.clear()
    hotels["Inn1 House1"] = {f"topic{n}": "never" for n in range(30)}
    assert moved(ingested(), anew()) == [] and not base.versions()[0].catalogue
    hotels.update((f"Inn{n} House{n}", dict.fromkeys(TOPICS, "no")) for n in range(2, 42))
    assert moved(ingested(), anew()) == [] and base.versions()[0].catalogue, "what was none becomes one"


@pytest.mark.slow
def test_a_large_catalogue_of_which_little_is_left_is_none_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few at a time: their sum counts."""
    monkeypatch.setattr(knowledge_base, "MANY", 20)
    rows = [(f"Inn{n} House{n}", topic) for n in range(30) for topic in TOPICS]
    file, base = tmp_path / "notes.jsonl", KnowledgeBase(tmp_path / "knowledge", HashingEncoder())
    seen = []
    for step in range(9):
        for n in range(8 * step, 8 * step + 8 if step else 0):
            rows[n] = ("", f"note{n} of the house about {WORDS[n % 11]} {n}")
        lines = (
            {"id": n, "entity": name, "question": f"{topic} terms", "answer": "yes"}
            for n, (name, topic) in enumerate(rows)
        )
        file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
        base.ingest([file])
        seen.append(base.versions()[0].catalogue)
    assert seen[:2] == [True, True] and seen[-1] is False


# -- its parts --------------------------------------------------------------------------------------------------------


def test_lines_grow_by_what_is_new_until_too_much_is_gone(tmp_path: Path) -> None:
    folders = [tmp_path / str(n) for n in range(4)]
    for folder in folders:
        folder.mkdir()
    first = [f"line {n} é".encode() for n in range(10)]
    write_lines(folders[0], "x", np.arange(10), first)
    write_lines(folders[1], "x", np.array([3, 10, 0, *range(4, 10)]), [b""], Lines(folders[0], "x"))
    grown = Lines(folders[1], "x")
    assert list(grown) == [first[3], b"", first[0], *first[4:]] == [grown[row] for row in range(9)]
    assert grown.take(np.array([1, 0])) == [b"", first[3]] and list(grown[-2:]) == first[-2:]
    assert [file.stat().st_nlink for file in grown.files] == [2, 1]
    write_lines(folders[2], "x", np.arange(3), [], grown)
    write_lines(folders[3], "x", np.array([2, 3]), [b"more"], Lines(folders[2], "x"))
    last = Lines(folders[3], "x")
    assert list(last) == [first[0], b"more"] and len(last.files) == 1, "what nobody needs is left behind"
    assert list(Lines(folders[0], "x")) == first


def test_lines_that_do_not_fit_their_table_are_refused(tmp_path: Path) -> None:
    write_lines(tmp_path, "x", np.arange(2), [b"one", b"two"])
    (tmp_path / "x.00.lines").write_bytes(b"one\n")
    with pytest.raises(RetrieverError, match="ingest again or roll back"):
        Lines(tmp_path, "x")
    (tmp_path / "x.npy").unlink()
    with pytest.raises(RetrieverError, match=r"x\.npy"):
        Lines(tmp_path, "x")


def test_where_the_disk_knows_no_second_names_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("not on this disk")

    write_lines(tmp_path, "x", np.arange(2), [b"one", b"two"])
    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "next").mkdir()
    write_lines(tmp_path / "next", "x", np.array([2, 0, 1]), [b"zero"], Lines(tmp_path, "x"))
    assert list(Lines(tmp_path / "next", "x")) == [b"zero", b"one", b"two"]
    assert (tmp_path / "x.00.lines").stat().st_nlink == 1


def test_columns_forget_names_that_no_row_has(tmp_path: Path) -> None:
    chance = random.Random(3)
    rows = [chance.choice("abcdefgh") for _ in range(30)]
    column = Column.of(rows)
    for _ in range(20):
        added = [chance.choice("efghijkl") for _ in range(3)]
        order = np.array(chance.sample(range(len(rows) + 3), 25))
        column = column.then(Column.of(added), order)
        rows = [[*rows, *added][row] for row in order]
        plain = Column.of(rows)
        assert column.values() == rows and column.names == plain.names
        assert column.numbers.tolist() == plain.numbers.tolist()
    assert Column.of([]).then(Column.of([]), np.arange(0)).values() == []


def test_tables_of_vectors_grow_by_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MOST_PARTS", 3)
    random_ = np.random.default_rng(0)
    whole = random_.normal(size=(20, 4)).astype(np.float32)
    table, order = Blocks([whole[:8]]), np.arange(8)
    for step, end in enumerate((8, 11, 11, 14, 20)):
        folder = tmp_path / str(step)
        folder.mkdir()
        held = table.held
        moved = random_.permutation([*range(len(table) - 1), *range(len(table), len(table) + end - held)])
        table, order = table.then(whole[held:end], moved), np.concatenate([order, np.arange(held, end)])[moved]
        table.save(folder, "x")
        table = Blocks.load(folder, "x", len(order), 4)
        assert np.array_equal(np.concatenate(list(table)), whole[:end])
        rows = random_.integers(0, len(order), (5, 3))
        assert np.array_equal(table[rows], whole[order[rows]])
        assert np.array_equal(table.rows[table.slots], np.arange(len(order))) and (table.rows == -1).sum() == step + 1
    assert [len(list((tmp_path / str(step)).glob("x.0?.npy"))) for step in range(5)] == [1, 2, 2, 3, 1]
    assert table.packed().held == len(order) < 0.8 * table.held
    assert np.array_equal(table.packed()[np.arange(len(order))], whole[order])
    assert table.then(whole[:5], np.arange(len(order) + 5)).packed().held == 25, "few are no row's: all stay"
    with pytest.raises(RetrieverError, match="does not hold 21 x 4"):
        Blocks.load(tmp_path / "4", "x", 21, 4)
    np.save(tmp_path / "4" / "x.slots.npy", np.zeros(len(order), np.int64))
    with pytest.raises(RetrieverError, match="each once"):
        Blocks.load(tmp_path / "4", "x", len(order), 4)
    assert np.array_equal(in_order(whole[:3].__getitem__, 3, whole[3:5], np.array([4, 0, 2])), whole[[4, 0, 2]])


def test_keywords_that_grew_weigh_words_nearly_as_new_ones(tmp_path: Path) -> None:
    texts = [" ".join(random.Random(n).choices(WORDS, k=6)) for n in range(200)]
    before = KeywordIndex.build(tmp_path / "before", texts)
    order = np.array([*range(5, 200), *range(200, 210)])
    added = [f"globe number{n} tent" for n in range(10)]
    grown = KeywordIndex.grown(tmp_path / "grown", added, order, before)
    plain = KeywordIndex.build(tmp_path / "plain", [*texts[5:], *added])
    assert grown.size == plain.size == 205
    for word in (*WORDS, "globe", "number7"):
        for term in terms(word):
            assert grown.weight(term) == pytest.approx(plain.weight(term), abs=0.1)
    scores, rows = grown.search(terms("globe number7"), 3)
    assert rows[0] == 202 and scores[0] == pytest.approx(plain.search(terms("globe number7"), 3)[0][0], rel=0.1)
    assert (grown.search(terms(" ".join(WORDS)), 300)[1] >= 0).all(), "what is gone is not found"
    assert before.size == 200 and before.search(terms("globe"), 3)[1].size == 0, "the version before is as it was"
