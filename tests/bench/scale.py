"""Whole searches measured at 10,000 to a million passages, and what it takes until a changed article is found.

`python -m tests.bench.scale` measures each size in a process of its own and puts its table into docs/benchmarks.md (a
million passages take half an hour); with sizes it measures those and only prints. Texts are halves of the sample
company's passages in ever other pairs, vectors mixtures of theirs (encoding a million texts would measure the encoder
alone); questions are those of the sample company with their conversations, read beforehand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from bot.golden import read_golden
from retriever.encoders import FrozenEncoder, weights_folder
from retriever.exact_index import ExactIndex
from retriever.knowledge_base import KnowledgeBase
from retriever.passages import Line, Passage, Query, Vectors
from retriever.vector_index import load_index
from tests.bench.page import machine, put
from tests.bench.vectors import CLIENTS, SIZES, mixtures, percentiles, queries_a_second, raw_call, recall
from tests.conftest import ROOT

ROWS_A_FILE = 20_000
CODE = "ZX-90417"
CHANGED = f"# Part {CODE}\n\nThe part {CODE} is shipped from the warehouse in Rotterdam within two days.\n"


class Mixing:
    """Stands in for the encoder while many passages are taken in: vectors that lie as those of the sample do."""

    def __init__(self, real: FrozenEncoder, base: Vectors) -> None:
        self._real, self._base = real, base
        self.name, self.dimension = real.name, real.dimension

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Vectors:
        if len(texts) < 100:  # what was changed is read in earnest
            return self._real.encode(texts, progress)
        return mixtures(self._base, len(texts), int.from_bytes(hashlib.sha256(texts[0].encode()).digest()[:4]))

    def encode_queries(self, queries: Sequence[Query]) -> tuple[Vectors, ...]:
        return self._real.encode_queries(queries)

    def knows(self, word: str) -> bool:
        return self._real.knows(word)


def many_rows(sample: Sequence[Passage], count: int) -> Iterator[str]:
    """`count` rows of JSONL, each of two passages of `sample`, no two alike."""
    for number in range(count):
        one, other = sample[number % len(sample)], sample[(number * 7919 + 13) % len(sample)]
        yield json.dumps({"id": f"row-{number}", "text": f"{one.text[:300]} {other.text[:200]} ({number})"}) + "\n"


def measured(count: int) -> list[str]:
    """The cells of one size. Resident memory is that of a process that only loads and searches."""
    encoder = FrozenEncoder(weights_folder())
    with tempfile.TemporaryDirectory(dir=ROOT / ".artifacts") as name:
        folder = Path(name)
        KnowledgeBase(folder / "sample", encoder).ingest([ROOT / "data" / "knowledge"])
        sample = KnowledgeBase(folder / "sample", encoder).load()
        (folder / "texts").mkdir()
        rows = many_rows(sample.passages, count)
        for number in range(0, count, ROWS_A_FILE):
            chosen = (next(rows) for _ in range(min(ROWS_A_FILE, count - number)))
            (folder / "texts" / f"{number}.jsonl").write_text("".join(chosen), "utf-8")
        (folder / "texts" / "part.md").write_text(CHANGED.replace("Rotterdam", "Malmö"), "utf-8")
        base = KnowledgeBase(folder / "many", Mixing(encoder, sample.vectors))
        began = time.monotonic()
        base.ingest([folder / "texts"])
        whole = time.monotonic() - began
        command = [sys.executable, "-m", "tests.bench.scale", "--searches", str(folder / "many")]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        cells: list[str] = json.loads(done.stdout.splitlines()[-1])
        (folder / "texts" / "part.md").write_text(CHANGED, "utf-8")
        began = time.monotonic()
        base.ingest([folder / "texts"])
        best = base.load().search(Query(f"Where is {CODE} shipped from?"))[0]
        live = time.monotonic() - began
        assert "Rotterdam" in best.passage.text, best
    return [f"{count:,}", *cells, f"{whole:.0f}", f"{live:.1f}"]


def searches(folder: Path) -> list[str]:
    """p50 and p99 of a search, p50 of the same call of FAISS, their rate, what is found, and what it takes."""
    encoder = FrozenEncoder(weights_folder())
    asked = [
        Query(row.text, tuple(Line(*line) for line in row.history))  # type: ignore[arg-type]
        for row in read_golden(ROOT / "data" / "evaluation.jsonl")
    ]
    read = [(query, encoder.encode_queries([query])) for query in asked]
    before = memory()
    began = time.monotonic()
    knowledge = KnowledgeBase(folder, encoder).load()
    opened = time.monotonic() - began
    for query, vectors in read[:20]:  # the first ones warm up
        knowledge.search(query, vectors)
    p50, p99 = percentiles(lambda one: knowledge.search(*one), read)
    rate = queries_a_second(lambda one: knowledge.search(*one), read)
    own, all_of_it = (after - at for after, at in zip(memory(), before, strict=True))
    version = KnowledgeBase(folder, encoder).versions()[0]
    index = load_index(
        folder / "versions" / version.version, version.index, rows=version.passages, dimension=version.dimension
    )
    last = np.concatenate([vectors[0] for _, vectors in read])
    truth = ExactIndex(knowledge.vectors).search(last[:200], 10)[1]
    found = recall(index.search(last[:200], 100)[1], truth)
    cells = [f"{p50:.1f}", f"{p99:.1f}", f"{raw_call(index, last):.2f}", f"{rate:.0f}", f"{found:.4f}", f"{opened:.1f}"]
    whole = knowledge.vectors.nbytes
    return [*cells, *(f"{part / 1e6:,.0f} ({part / whole:.2f})" for part in (own, all_of_it))]


def memory() -> tuple[int, int]:
    """Bytes that are this process's own, and those with what it has touched of files that are mapped."""
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, all_of_it = (1024 * int(told[name].split()[0]) for name in ("RssAnon", "VmRSS"))
    return own, all_of_it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int)
    parser.add_argument("--searches", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    (ROOT / ".artifacts").mkdir(exist_ok=True)
    if chosen.searches:
        print(json.dumps(searches(chosen.searches)))
        return
    columns = ("passages", "search p50, ms", "p99, ms", "raw FAISS call, p50", f"searches a second, {CLIENTS} clients")
    columns += ("recall@10 of the index", "open, s", "MB of its own (of the vectors' bytes)", "with what is mapped")
    columns += ("whole ingest, s", "one article changed and found, s")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for size in chosen.sizes or SIZES:
        lines.append(f"| {' | '.join(measured(size))} |")
        print(lines[-1], flush=True)
    text = "\n".join([*lines, "", f"Five hits a search, the question read beforehand; {machine()}."])
    if not chosen.sizes:
        put("scale", text)


if __name__ == "__main__":
    main()
