"""What a killed ingest embedded is not embedded again, and nothing that is torn, damaged or another's is believed."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from retriever import embedded
from retriever.embedded import embed, forget
from retriever.knowledge_base import KnowledgeBase
from retriever.passages import Query, RetrieverError, Vectors
from tests.conftest import ROOT
from tests.retriever.hashing import HashingEncoder

TEXTS = [f"Article {number} of {number * 7 % 11} about shelf {number % 5}." for number in range(20)]
PART = 3


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PART", PART)


class Killed(BaseException):
    """Stands for SIGKILL: nothing on the way may catch it."""


class Mortal(HashingEncoder):
    """Is killed when it is asked for one text more than `life`."""

    def __init__(self, life: int) -> None:
        super().__init__()
        self.life = life

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Vectors:
        if len(self.encoded) + len(texts) > self.life:
            raise Killed
        return super().encode(texts, progress)


def killed_after(life: int, folder: Path, texts: Sequence[str] = TEXTS) -> None:
    with pytest.raises(Killed):
        embed(texts, Mortal(life), folder)


def left(folder: Path) -> Path:
    (one,) = folder.glob(".embedded-*")
    return one


@pytest.fixture
def whole() -> Vectors:
    return HashingEncoder().encode(TEXTS)


@pytest.mark.parametrize("life", range(20))
def test_what_was_made_before_a_kill_is_not_made_again(life: int, tmp_path: Path, whole: Vectors) -> None:
    killed_after(life, tmp_path)
    second = HashingEncoder()
    told: list[tuple[int, int]] = []
    vectors, made = embed(TEXTS, second, tmp_path, lambda done, total: told.append((done, total)))
    assert np.array_equal(vectors, whole)
    before = life // PART * PART
    assert second.encoded == TEXTS[before:] and made == len(TEXTS) - before
    assert told == [(done, made) for done in range(1, made + 1)], "a rate of what is made, not of what was found"


def test_kills_add_up_to_the_whole(tmp_path: Path, whole: Vectors) -> None:
    for _ in range(6):
        killed_after(PART, tmp_path)
    last = HashingEncoder()
    assert np.array_equal(embed(TEXTS, last, tmp_path)[0], whole)
    assert last.encoded == TEXTS[18:]
    none = HashingEncoder()
    assert np.array_equal(embed(TEXTS[::-1], none, tmp_path)[0], whole[::-1]) and none.encoded == []


def test_articles_that_changed_between_are_made_and_the_others_are_not(tmp_path: Path) -> None:
    killed_after(9, tmp_path)
    texts = ["A new one.", *TEXTS[4:8], "\ud800 half a character"]
    second = HashingEncoder()
    vectors, made = embed(texts, second, tmp_path)
    assert (made, second.encoded) == (2, [texts[0], texts[-1]])
    assert np.array_equal(vectors, HashingEncoder().encode(texts))


def damages(content: bytes) -> Iterator[tuple[str, bytes]]:
    rng = random.Random(3)
    for cut in (0, 1, 3, 4, 5, 40, len(content) // 2, len(content) - 33, len(content) - 32, len(content) - 1):
        yield f"cut at {cut}", content[:cut]
    for _ in range(60):
        at = rng.randrange(len(content))
        yield f"bit flipped at {at}", content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    yield "zeroed", bytes(len(content))
    yield "appended to", content + b"\x03\0\0\0 and no more"
    yield "something else", b"\xff" * 1000


def test_a_damaged_leftover_is_as_if_it_had_not_been_made(tmp_path: Path, whole: Vectors) -> None:
    killed_after(12, tmp_path)
    file = left(tmp_path)
    content = file.read_bytes()
    fewer = 0
    for what, damaged in damages(content):
        file.write_bytes(damaged)
        second = HashingEncoder()
        vectors, made = embed(TEXTS, second, tmp_path)
        assert np.array_equal(vectors, whole), what
        assert made == len(second.encoded) >= len(TEXTS) - 12
        fewer += made < len(TEXTS)
        third = HashingEncoder()
        assert embed(TEXTS, third, tmp_path)[1] == 0 and third.encoded == [], f"{what}: mended by what came after"
    assert fewer > 10, "sound parts before the damage were taken: the control"


def test_without_its_proof_damage_would_be_believed(tmp_path: Path, whole: Vectors) -> None:
    """The planted fault: a damaged part with a proof made for it."""
    killed_after(PART, tmp_path)
    content = left(tmp_path).read_bytes()
    damaged = content[:60] + bytes([content[60] ^ 0x40]) + content[61:-32]
    left(tmp_path).write_bytes(damaged + hashlib.sha256(damaged).digest())
    assert not np.array_equal(embed(TEXTS, HashingEncoder(), tmp_path)[0], whole)


def test_no_encoder_reads_what_another_made(tmp_path: Path) -> None:
    killed_after(12, tmp_path)
    other = HashingEncoder("other-64@1")
    assert embed(TEXTS, other, tmp_path)[1] == len(other.encoded) == len(TEXTS)
    small = HashingEncoder()
    small.dimension = 32
    assert embed(TEXTS, small, tmp_path)[0].shape == (20, 32) and len(small.encoded) == len(TEXTS)
    assert len(list(tmp_path.glob(".embedded-*"))) == 3
    forget(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_embed_asks_nobody_and_leaves_nothing(tmp_path: Path) -> None:
    encoder = HashingEncoder()
    assert embed([], encoder, tmp_path)[0].shape == (0, 64)
    assert encoder.encoded == [] and list(tmp_path.iterdir()) == []


# -- in an ingest -----------------------------------------------------------------------------------------------------


@pytest.fixture
def articles(tmp_path: Path) -> Path:
    folder = tmp_path / "articles"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        (folder / f"{number:02}.md").write_text(f"# Shelf {number}\n\n{text}\n", "utf-8")
    return folder


@pytest.mark.slow
def test_a_killed_ingest_goes_on_and_ends_as_one_that_was_not(articles: Path, tmp_path: Path) -> None:
    for life in (2, 7, 19):
        home = tmp_path / f"killed-{life}"
        with pytest.raises(Killed):
            KnowledgeBase(home, Mortal(life)).ingest([articles])
        assert KnowledgeBase(home, HashingEncoder()).versions() == [], "what was left is no version"
        encoder = HashingEncoder()
        base = KnowledgeBase(home, encoder)
        report = base.ingest([articles])
        assert report.added == 20 and report.embedded == len(encoder.encoded) == 20 - life // PART * PART
        plain = KnowledgeBase(tmp_path / f"plain-{life}", HashingEncoder())
        plain.ingest([articles])
        same(base, plain)
        assert list(home.glob(".embedded-*")) == [], "the version holds them now"


def same(base: KnowledgeBase, plain: KnowledgeBase) -> None:
    one, other = base.load(), plain.load()
    assert list(one.passages) == list(other.passages) and list(one.documents) == list(other.documents)
    assert np.array_equal(one.vectors, other.vectors)
    asked = Query("article about shelf 3")
    assert one.search(asked, None, 20) == other.search(asked, None, 20)


def test_a_kill_while_the_version_is_written_costs_no_embedding(articles: Path, tmp_path: Path) -> None:
    class Dying(KnowledgeBase):
        def _write(self, *_: object) -> str:
            raise Killed

    with pytest.raises(Killed):
        Dying(tmp_path / "knowledge", HashingEncoder()).ingest([articles])
    encoder = HashingEncoder()
    report = KnowledgeBase(tmp_path / "knowledge", encoder).ingest([articles])
    assert (report.added, report.embedded, encoder.encoded) == (20, 0, [])


CHILD = """
import sys
from pathlib import Path
from retriever import embedded
from retriever.knowledge_base import KnowledgeBase
from tests.retriever.hashing import HashingEncoder

class Waiting(HashingEncoder):
    calls = 0

    def encode(self, texts, progress=None):
        self.calls += 1
        print(len(texts), flush=True)
        if self.calls == 3:
            sys.stdin.read()
        return super().encode(texts, progress)

embedded.PART = 3
folder = Path(sys.argv[1])
KnowledgeBase(folder / "knowledge", Waiting()).ingest([folder / "articles"])
print("done", flush=True)
"""


@pytest.mark.slow
def test_an_ingest_that_is_killed_again_and_again_ends(articles: Path, tmp_path: Path) -> None:
    """SIGKILL in the encoder: each run embeds what is missing, and all of them together little more than that once."""
    asked, kills = 0, 0
    while True:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdin is not None and child.stdout is not None
        said = []
        for line in child.stdout:
            said.append(line.strip())
            if len(said) == 3 and said[-1] != "done":  # two parts are made, the third is under way
                child.send_signal(signal.SIGKILL)
        child.communicate()
        asked += sum(int(word) for word in said if word != "done")
        if said[-1] == "done":
            break
        kills += 1
        assert child.returncode == -signal.SIGKILL
    assert kills == 3, "20 texts, six of them a run"
    assert asked == 20 + 3 + 3 + 2, "only what was under way was made twice"
    plain = KnowledgeBase(tmp_path / "plain", HashingEncoder())
    plain.ingest([articles])
    same(KnowledgeBase(tmp_path / "knowledge", HashingEncoder()), plain)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_full_while_embedding_says_so_and_keeps_what_was_made(tmp_path: Path, whole: Vectors) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", disk], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine may not mount a tmpfs")
    try:
        texts = TEXTS + [f"More {number}" for number in range(40)]
        with pytest.raises(RetrieverError) as full:
            embed(texts, HashingEncoder(), disk)
        assert "\n" not in str(full.value) and "free space" in str(full.value)
        subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
        again = HashingEncoder()
        vectors, made = embed(texts, again, disk)
        assert 0 < made < len(texts) and np.array_equal(vectors[:20], whole)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
