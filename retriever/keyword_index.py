"""Passages by the words they share with a question: BM25 in tantivy over terms that this module cuts.

Owns what a term is, in English and in Chinese, and the keyword files. Knows nothing about passages or vectors: a row
is a number. Cutting happens here and not in tantivy, so that the index, the query and the share of words a passage
covers can never disagree about what a word is.
"""

from __future__ import annotations

import math
import re
import shutil
import unicodedata
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from retriever.lines import Lines, Order, grows, link, write_lines
from retriever.passages import RetrieverError

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]

_HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED: Final = f"{_HAN}\u3040-\u30ff\u31f0-\u31ff"
"""Scripts written without spaces. Korean has spaces and is cut like other words."""
_RUN = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|(?P<word>[^\W_{_UNSPACED}]+(?:[-.'’/&][^\W_{_UNSPACED}]+)*)")
_DASHES: Final = dict.fromkeys((*range(0x2010, 0x2016), 0x2212), "-")
"""As word processors write them: `TR‑8464` is the code `TR-8464`."""
_VOICED: Final = "\u3099\u309a"
"""Marks of Japanese syllables, which make other syllables of them."""
_UNSPACED_LETTER = re.compile(f"[{_UNSPACED}]")
_JOINT = re.compile(r"[-.'’/&]")
_CLITIC = re.compile(r"[’'](?:s|re|ve|ll|d|m|t)$")
_LONGEST: Final = 64
_FEW_SEEN: Final = 2_000
"""Up to this many rows that may be seen are asked for by their slots: they may stand far behind many others."""
TERMS: Final = "terms"
"""Of each row, in order: what the index is written anew from."""
STAMPS: Final = "stamps"
"""Of each row, once: what says which terms it holds."""
SLOTS: Final = "slots.npy"
_STAMP: Final = np.uint32
_GONE: Final = -1

# Words that say how a sentence is built and not what it is about (closed classes, no data set was looked at).
_GRAMMAR_WORDS: Final = """
a an the this that these those there here it its he she they them their we us our you your yours i me my mine
is are was were be been being am do does did doing done have has had having can could will would shall should
may might must and or but if so as than then of in on at by for to from with about into over up down out off
not no nor what which who whom whose when where why how any some all each both more most other such only own
too very just also again please want need like get got know tell let ok okay yes hi hello hey thanks thank
won don doesn didn isn aren wasn weren wouldn shouldn couldn
的 了 吗 呢 吧 啊 呀 我 你 您 他 她 它 我们 你们 他们 是 在 有 和 与 或 也 都 就 还 要 想 会 能 可以 可 以
请 请问 问 什么 怎么 怎 怎样 如何 哪 哪里 哪个 这 那 这个 那个 个 一下 不 没 没有 被 把 给 对 到 么 谢谢 您好 你好
嗎 們 個 這 還 請 請問 什麼 怎麼 沒 沒有 會
"""
_GRAMMAR: Final = frozenset(_GRAMMAR_WORDS.split())


def terms(text: str) -> list[str]:
    """The index terms of `text`, in order, repeats kept.

    Words are lower-cased, stripped of accents and stemmed (Porter 2, English; words with digits are kept whole, so
    that `TR-8464` gives `tr`, `8464` and `tr8464`). Chinese and Japanese runs give their longer dictionary words
    (jieba), their overlapping pairs of characters and the characters alone, so that a short question still meets a
    longer word. Marks that stand on letters (vowels of Arabic and Hebrew, the dot of `İ`) are left out, as most leave
    them out who type.
    """
    words: list[str] = []
    plain = text.casefold()
    if not text.isascii():
        plain = unicodedata.normalize("NFKC", text).casefold().translate(_DASHES)
        plain = _marks().sub("", plain)
    for run in _RUN.finditer(plain):
        if run["unspaced"]:
            words += _unspaced(run["unspaced"])
        else:
            words += _word(run["word"])
    return _stemmed(words)


def weighty(found: Iterable[str]) -> list[str]:
    """`found` without words of pure grammar; all of it when nothing else is left."""
    kept = [term for term in found if term not in _grammar()]
    return kept or list(found)


def unspaced_share(text: str) -> float:
    """The share, 0 to 1, of the letters of `text` that belong to scripts written without spaces."""
    unspaced = len(_UNSPACED_LETTER.findall(text))
    # Most texts have none, and counting letters one by one would be a tenth of a search.
    return unspaced / sum(c.isalpha() for c in text) if unspaced else 0.0


def _unspaced(run: str) -> list[str]:
    import rjieba

    # Measured on 175 Chinese questions: words, pairs and single characters together find the article most often.
    pairs = [run[i : i + 2] for i in range(len(run) - 1)]
    longer = [word for word in rjieba.cut_for_search(run) if len(word) > 2]
    return [*longer, *pairs, *run]


def _word(word: str) -> list[str]:
    if word.isascii() and word.isalnum():  # nearly all
        return [word[:_LONGEST]]
    word = _CLITIC.sub("", word)
    plain = "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))[:_LONGEST]
    parts = [part for part in _JOINT.split(plain) if part]
    return parts if len(parts) < 2 else [*parts, "".join(parts)]


def stemmed(word: str) -> str:
    """The stem of one ASCII word in small letters."""
    return _stemmed([word])[0]


def _stemmed(words: Sequence[str]) -> list[str]:
    # One call for the whole text: the words hold no white space, so they come back one for one.
    return list(_stemmer().analyze(" ".join(words))) if words else []


@cache
def _marks() -> re.Pattern[str]:
    """What stands on letters and is none: inside a word it would end the word."""
    marks = (c for c in map(chr, range(0x300, 0x20000)) if unicodedata.category(c) in ("Mn", "Mc") and c not in _VOICED)
    return re.compile(f"[{''.join(marks)}]+")


@cache
def _stemmer() -> Any:
    import tantivy

    return tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).filter(tantivy.Filter.stemmer("english")).build()


@cache
def _grammar() -> frozenset[str]:
    return frozenset(_stemmed(sorted(_GRAMMAR))) | _GRAMMAR


class KeywordIndex:
    """A folder of keywords, opened for reading. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        """Open what `build` wrote. Check the files' SHA-256 before."""
        import tantivy

        try:
            self._lines = Lines(folder, TERMS)
            self._stamps = Lines(folder, STAMPS)
            self._row_of = np.load(folder / SLOTS, allow_pickle=False)
            self._index = tantivy.Index.open(str(folder))
            self._searcher = self._index.searcher()
        except (OSError, ValueError) as error:
            raise RetrieverError(f"{folder}: not a keyword index ({error}); ingest again or roll back") from None
        self._schema = self._index.schema
        self._folder = folder
        self.size = len(self._lines)
        if self._row_of.dtype != np.int64 or int((self._row_of >= 0).sum()) != self.size:
            raise RetrieverError(f"{folder / SLOTS}: does not hold {self.size} rows; ingest again or roll back")

    @classmethod
    def build(cls, folder: Path, texts: Sequence[str]) -> KeywordIndex:
        """Index `texts`, row by row, into the new `folder`; OSError when the disk refuses."""
        return cls.grown(folder, texts, np.arange(len(texts)))

    @classmethod
    def grown(
        cls, folder: Path, texts: Sequence[str], order: Order, before: KeywordIndex | None = None
    ) -> KeywordIndex:
        """Index the rows of `before` and then `texts`, in `order`, into the new `folder`.

        Of many rows only what is new is indexed. As in every search engine what is gone still counts in a word's
        weight, until its part of the index is written anew.
        """
        folder.mkdir(parents=True)
        added = [" ".join(terms(text)).encode() for text in texts]
        write_lines(folder, TERMS, order, added, None if before is None else before._lines)
        write_lines(folder, STAMPS, order, map(_stamps, added), None if before is None else before._stamps)
        if before is not None and grows(len(order), before.size / max(1, len(before._row_of)), 0):
            end = len(before._row_of)
            slot_of = np.argsort(before._row_of)[end - before.size :]  # what is gone sorts before row 0
            slots = np.concatenate([slot_of, end + np.arange(len(added))])[order]
            row_of = np.full(end + len(added), _GONE, np.int64)
            row_of[slots] = np.arange(len(order))
            before._copy(folder)
            _write(folder, enumerate(added, end), np.setdiff1d(slot_of, slots).tolist())
        else:
            row_of = np.arange(len(order))
            _write(folder, enumerate(Lines(folder, TERMS)), [])
        np.save(folder / SLOTS, row_of)
        return cls(folder)

    def _copy(self, folder: Path) -> None:
        """The same index in another folder. Its segments never change; what says which there are is replaced."""
        for file in self._folder.iterdir():
            if file.suffix in (".json", ".lock"):
                shutil.copyfile(file, folder / file.name)
            elif file.name != SLOTS and file.name.partition(".")[0] not in (TERMS, STAMPS):
                link(file, folder / file.name)

    def search(self, wanted: Sequence[str], k: int, seen: Mask | None = None) -> tuple[Scores, Rows]:
        """`(BM25 scores, rows)` of the best `k` rows with any of the terms `wanted`, best first (k1 1.2, b .75); only
        those that `seen` marks when given.
        """
        import tantivy

        if not wanted or not self.size:
            return np.empty(0, np.float32), np.empty(0, np.int64)
        query = tantivy.Query.boolean_query(
            [
                (tantivy.Occur.Should, tantivy.Query.term_query(self._schema, "terms", term, "freq"))
                for term in dict.fromkeys(wanted)
            ]
        )
        if seen is not None and np.count_nonzero(seen) <= min(_FEW_SEEN, self.size // 10):
            among = np.flatnonzero(np.append(seen, False)[self._row_of]).tolist()
            those = tantivy.Query.const_score_query(tantivy.Query.term_set_query(self._schema, "slot", among), 0.0)
            query = tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, those)])
        depth = min(k, self.size)
        while True:
            hits = self._searcher.search(query, depth, count=False).hits
            slots = np.array(self._searcher.fast_field_values("slot", [address for _, address in hits]), np.int64)
            rows = self._row_of[slots]
            scores = np.array([score for score, _ in hits], np.float32)
            if seen is None:
                return scores, rows
            kept = seen[rows]
            if kept.sum() >= k or len(rows) < depth or depth == self.size:
                return scores[kept][:k], rows[kept][:k]
            depth = min(4 * depth, self.size)

    def strength(self, wanted: Sequence[str], k: int, seen: Mask | None = None) -> dict[int, float]:
        """Rows to BM25 as a share, 0 to 1, of what a row of endless fitting text would score: the best `k`."""
        scores, rows = self.search(wanted, k, seen)
        most = 2.2 * sum(map(self.weight, dict.fromkeys(wanted))) or 1.0
        return dict(zip(rows.tolist(), (scores / most).tolist(), strict=True))

    def forms(self, words: Sequence[str]) -> list[tuple[int, int, str]]:
        """Of the `words`, in small ASCII letters, those that some row holds in one of their forms, each with how many
        rows do and how many letters its stem cuts off."""
        stems = _stemmed(words)
        held = [self._searcher.doc_freq("terms", stem) for stem in stems]
        return [(n, len(word) - len(stem), word) for n, word, stem in zip(held, words, stems, strict=True) if n]

    def holds(self, term: str) -> bool:
        return bool(self._searcher.doc_freq("terms", term))

    def held(self, wanted: Sequence[str], row: int) -> tuple[str, ...]:
        """Those of the terms `wanted` that the row holds."""
        stamps = np.frombuffer(self._stamps[row], _STAMP).tolist() if wanted else ()
        return tuple(term for term in wanted if _stamp(term) in stamps)

    def weight(self, term: str) -> float:
        """BM25's inverse document frequency: `ln(1 + (n - df + .5) / (df + .5))`, both with what is gone since."""
        held = self._searcher.doc_freq("terms", term)
        return math.log(1 + (len(self._row_of) - held + 0.5) / (held + 0.5))

    def coverage(self, weights: Mapping[str, float], rows: Rows) -> Scores:
        """For each row the share, 0 to 1, of the summed `weights` whose terms the row holds."""
        if not weights:
            return np.zeros(len(rows), np.float32)
        asked = np.array([_stamp(term) for term in weights], _STAMP)
        weight, order = np.array(list(weights.values())), np.argsort(asked)
        lines = self._stamps.take(rows)
        stamps = np.frombuffer(b"".join(lines), _STAMP)
        # Few share even half of their bits with one that is asked for: only those are looked at closely.
        near = np.zeros(1 << 16, bool)
        near[asked & 0xFFFF] = True
        at = np.flatnonzero(near[stamps & 0xFFFF])
        place = order[np.searchsorted(asked, stamps[at], sorter=order).clip(max=len(asked) - 1)]
        held = asked[place] == stamps[at]
        row = np.searchsorted(np.cumsum([len(line) // _STAMP().itemsize for line in lines]), at[held], side="right")
        found = np.bincount(row, weight[place[held]], len(lines))
        return (found / (weight.sum() or 1.0)).astype(np.float32)


def _stamp(term: str) -> int:
    """What stands for a term where only equality counts. Two terms of one question and one row have the same by chance
    once in a hundred million times."""
    return zlib.crc32(term.encode())


def _stamps(line: bytes) -> bytes:
    return np.array([zlib.crc32(term) for term in set(line.split())], _STAMP).tobytes()


def _write(folder: Path, added: Iterable[tuple[int, bytes]], gone: Sequence[int]) -> None:
    """Add lines under their slots to the index in `folder`, a new one where none is, and take the slots `gone` out."""
    import tantivy

    schema = (
        tantivy.SchemaBuilder()
        .add_text_field("terms", tokenizer_name="whitespace", index_option="freq")
        .add_unsigned_field("slot", fast=True, indexed=True)
        .build()
    )
    try:
        # One thread and one commit: the same texts give one segment and the same ranking every time.
        writer = tantivy.Index(schema, path=str(folder)).writer(heap_size=64_000_000, num_threads=1)
        if gone:
            # By query: as a term an unsigned number is taken for a signed one, and nothing is deleted.
            writer.delete_documents_by_query(tantivy.Query.term_set_query(schema, "slot", gone))
        for slot, line in added:
            document = tantivy.Document()
            document.add_text("terms", line.decode())
            document.add_unsigned("slot", slot)
            writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()
    except ValueError as error:  # tantivy's only exception, also for a full disk
        raise OSError(f"keyword index not written ({str(error)[:120]})") from None
