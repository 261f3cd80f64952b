"""Versions appear whole or not at all, and a damaged one is refused before FAISS or tantivy reads it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retriever import lines, vector_index
from retriever.knowledge_base import KnowledgeBase
from retriever.passages import Query, RetrieverError
from retriever.versions import Version, VersionStore
from tests.conftest import ROOT
from tests.retriever.hashing import HashingEncoder

KILLS = int(os.environ.get("FRONTDESK_KILLS", "20"))
MUTATIONS = int(os.environ.get("FRONTDESK_MUTATIONS", "60"))


THINGS = ("kettle", "lantern", "blanket", "compass", "hammock", "thermos")


def write_edition(folder: Path, edition: int) -> None:
    """Two entities that say the like of six things, a catalogue: with cells (`SMALL`), a version then has every kind
    of file there is. Beside it stands what never changes, and is taken over from version to version."""
    folder.mkdir(exist_ok=True)
    if not (folder / "steady.csv").exists():
        things = [THINGS[n // 2 % 6] for n in range(STEADY)]
        rows = [f"{n},{thing},This is steady {n // 2} of {thing}.,{'ab'[n % 2]}\n" for n, thing in enumerate(things)]
        (folder / "steady.csv").write_text("".join(["id,question,answer,entity\n", *rows]), "utf-8")
    rows = [f"{n},{THINGS[n // 2]},This is edition {edition} of {THINGS[n // 2]}.,{'ab'[n % 2]}\n" for n in range(12)]
    (folder / "articles.csv").write_text("".join(["id,question,answer,entity\n", *rows]), "utf-8")


def editions(base: KnowledgeBase) -> set[str]:
    """The editions that the loaded version speaks of; more than one would be a mixture."""
    knowledge = base.load()
    assert len(knowledge.passages) == 12 + STEADY
    found = [hit.passage for hit in knowledge.search(Query("edition of article"), None, 12 + STEADY)]
    changing = [[p for p in some if p.source.startswith("articles.csv")] for some in (found, knowledge.passages)]
    assert [len(some) for some in changing] == [12, 12]
    return {passage.text.split()[3] for some in changing for passage in some}


STEADY = 60
SMALL = 5
"""Rows from which these tests lay cells, and take files over."""


@pytest.fixture(autouse=True, scope="module")
def cells_of_few_rows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vector_index, "EXACT", SMALL)
        patched.setattr(lines, "MANY", SMALL)
        yield


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A knowledge base with editions 1 and 2."""
    folder = tmp_path_factory.mktemp("published")
    for edition in (1, 2):
        write_edition(folder / "articles", edition)
        KnowledgeBase(folder / "knowledge", HashingEncoder()).ingest([folder / "articles"])
    return folder / "knowledge"


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "knowledge"))


def live_files(folder: Path) -> list[Path]:
    current = VersionStore(folder).current()
    assert current is not None
    return sorted(p for p in (folder / "versions" / current).rglob("*") if p.is_file() and ".lock" not in p.name)


def mutations(path: Path, seed: int) -> Iterator[str]:
    """Damage `path` in each way a disk or a person does, one at a time."""
    whole, rng = path.read_bytes(), random.Random(seed)
    if whole:
        at = rng.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
        yield f"bit flipped at {at}"
        path.write_bytes(whole[: rng.randrange(len(whole))])
        yield "truncated"
        path.write_bytes(b"\0" * len(whole))
        yield "zeroed"
    path.write_bytes(whole + b"\n{}")
    yield "appended to"
    path.unlink()
    yield "removed"
    path.write_bytes(whole)


def test_the_sound_version_is_accepted(copy: Path) -> None:
    """The control: without damage the same checks pass."""
    base = KnowledgeBase(copy, HashingEncoder())
    assert base.load().warning == ""
    assert editions(base) == {"2"}
    assert [problem for _, problem in base.check()] == ["", ""]


@pytest.mark.slow
def test_every_damage_is_detected_and_the_version_before_serves(copy: Path) -> None:
    base, tried = KnowledgeBase(copy, HashingEncoder()), 0
    files = live_files(copy)
    kinds = {"documents.00.lines", "passages.00.lines", "passages.npy", "marks.json", "sources.json", "keys.npy"}
    kinds |= {
        "terms.00.lines",
        "embeddings.00.npy",
        "embeddings.slots.npy",
        "cells.faiss",
        "vectors.00.npy",
        "manifest.json",
    }
    assert kinds <= {f.name for f in files}
    for seed in range(max(1, MUTATIONS // (5 * len(files)))):
        for path in files:
            for damage in mutations(path, seed):
                knowledge = base.load()
                assert knowledge.warning, f"{path.name} {damage}: not detected"
                assert "\n" not in knowledge.warning
                assert f"serving version {knowledge.version} instead" in knowledge.warning
                assert "edition 1" in knowledge.passages[0].text
                tried += 1
    assert tried >= 40
    assert base.load().warning == "", "the last mutation was undone"


def test_without_the_checksums_damage_would_be_served(copy: Path) -> None:
    """The planted fault: a store that trusts its files lets FAISS load a damaged one without a word."""

    class Trusting(VersionStore):
        def check(self, name: str) -> Version:
            return next(version for version in self.list() if version.version == name)

    path = next(file for file in live_files(copy) if file.name == "cells.faiss")
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + b"\x7f" + whole[-2:])
    base = KnowledgeBase(copy, HashingEncoder())
    assert base.load().warning
    base._store = Trusting(copy)
    assert base.load().warning == ""


def test_files_of_two_versions_cannot_be_mixed(copy: Path) -> None:
    old, new = (copy / "versions" / name for name in VersionStore(copy).names())
    base = KnowledgeBase(copy, HashingEncoder())
    for name in ("cells.faiss", "passages.npy", "manifest.json"):
        kept = (new / name).read_bytes()
        shutil.copy(old / name, new / name)
        assert name in base.load().warning
        (new / name).write_bytes(kept)
    (new / "stray.faiss").write_bytes(b"x")
    assert "not part of this version" in base.load().warning


def test_a_damaged_version_alone_is_an_error_with_its_cure(copy: Path) -> None:
    old, new = VersionStore(copy).names()
    shutil.rmtree(copy / "versions" / old)
    (copy / "versions" / new / "cells.faiss").write_bytes(b"")
    with pytest.raises(RetrieverError, match=r"cells\.faiss: damaged.*ingest again"):
        KnowledgeBase(copy, HashingEncoder()).load()


def test_an_ingest_repairs_a_damaged_knowledge_base(copy: Path, tmp_path: Path) -> None:
    write_edition(tmp_path / "articles", 3)
    live_files(copy)[0].unlink()
    base = KnowledgeBase(copy, HashingEncoder())
    assert base.load().warning
    base.ingest([tmp_path / "articles"])
    assert base.load().warning == ""


def test_a_pointer_to_nowhere_falls_back(copy: Path) -> None:
    for content in ("", "000009-00000000\n", "../../etc\n", "\0\0"):
        (copy / "CURRENT").write_text(content)
        assert editions(KnowledgeBase(copy, HashingEncoder())) <= {"1", "2"}
    (copy / "CURRENT").unlink()
    assert len(editions(KnowledgeBase(copy, HashingEncoder()))) == 1


def test_rollback_passes_over_what_cannot_serve(copy: Path, tmp_path: Path) -> None:
    base = KnowledgeBase(copy, HashingEncoder())
    oldest, _ = VersionStore(copy).names()
    write_edition(tmp_path / "more", 3)
    newest = base.ingest([tmp_path / "more"]).version
    between = VersionStore(copy).names()[1]
    (copy / "versions" / between / "passages.npy").write_bytes(b"")
    assert base.rollback() == oldest
    assert base.rollback(newest) == newest == base.load().version
    with pytest.raises(RetrieverError, match="damaged"):
        base.rollback(between)
    with pytest.raises(RetrieverError, match="knowledge versions"):
        base.rollback("000099-nothing")
    assert VersionStore(copy).current() == newest


def test_rollback_refuses_a_damaged_version(copy: Path) -> None:
    old, new = VersionStore(copy).names()
    (copy / "versions" / old / "passages.npy").write_bytes(b"")
    with pytest.raises(RetrieverError, match="damaged"):
        KnowledgeBase(copy, HashingEncoder()).rollback()
    assert VersionStore(copy).current() == new


def test_every_file_is_synced_before_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File fsync, folder fsync, manifest, rename, parent fsync, pointer: recorded from the calls themselves."""
    write_edition(tmp_path / "articles", 1)
    calls: list[tuple[str, str]] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def recording_fsync(handle: int) -> None:
        calls.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def recording_rename(source: str, target: str) -> None:
        calls.append(("rename", str(target)))
        rename(source, target)

    def recording_replace(source: str, target: str) -> None:
        calls.append(("replace", str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "rename", recording_rename)
    monkeypatch.setattr(os, "replace", recording_replace)
    base = KnowledgeBase(tmp_path / "knowledge", HashingEncoder())
    version = base.ingest([tmp_path / "articles"]).version
    monkeypatch.undo()
    # Calls of this module alone: tantivy syncs and renames its own files from Rust, before.
    names = [(what, Path(path).name) for what, path in calls]
    shown = names.index(("rename", version))
    synced = {name for what, name in names[:shown] if what == "fsync"}
    content = {path.name for path in live_files(tmp_path / "knowledge")}
    assert content <= synced
    assert names[shown - 2 : shown][0] == ("fsync", "manifest.json"), "the manifest is the last file written"
    assert names[shown + 1] == ("fsync", "versions")
    assert names[shown + 2 :] == [("fsync", "CURRENT.new"), ("replace", "CURRENT"), ("fsync", "knowledge")]


CHILD = """
import sys
from pathlib import Path
from retriever import embedded, lines, vector_index
from retriever.knowledge_base import KnowledgeBase
from tests.retriever.hashing import HashingEncoder
from tests.retriever.test_versions import write_edition
import faiss, tantivy
folder = Path(sys.argv[1])
edition = int(sys.argv[2])
base = KnowledgeBase(folder / "knowledge", HashingEncoder())
vector_index.EXACT = lines.MANY = 5
embedded.PART = 2
print("ready", flush=True)
while True:
    edition += 1
    write_edition(folder / "articles", edition)
    base.ingest([folder / "articles"])
    print(edition, flush=True)
"""


@pytest.mark.slow
def test_a_killed_ingest_leaves_the_old_or_the_new_version_whole(tmp_path: Path) -> None:
    rng = random.Random(7)
    acknowledged, during = 0, 0
    base = KnowledgeBase(tmp_path / "knowledge", HashingEncoder())
    for _ in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(acknowledged + 1)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        try:
            child.wait(rng.uniform(0.02, 1.5))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        said = child.communicate()[0].split()
        assert child.returncode == -signal.SIGKILL
        during += bool(list((tmp_path / "knowledge" / "versions").glob(".staging-*")))
        acknowledged = max([acknowledged, *map(int, said)])
        if acknowledged:
            (served,) = editions(base)
            assert int(served) >= acknowledged, "an acknowledged ingest was lost"
            assert base.load().warning == ""
            acknowledged = int(served)
    assert acknowledged > 0, "no ingest ever finished: the kills prove nothing"
    sys.stdout.write(f"{KILLS} kills, {during} while a version was written, edition {acknowledged} is live\n")
    assert during > 0, "no kill fell into an ingest: the kills prove nothing"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_one_line_and_the_old_version_serves(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine may not mount a tmpfs")
    try:
        write_edition(tmp_path / "articles", 1)
        base = KnowledgeBase(disk / "knowledge", HashingEncoder())
        version = base.ingest([tmp_path / "articles"]).version
        refused = 0
        for free in (0, 4, 12, 24, 40, 60, 90):
            (disk / "ballast").unlink(missing_ok=True)
            write_edition(tmp_path / "articles", 100 + free)
            room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            (disk / "ballast").write_bytes(b"x" * max(0, room - free * 1024))
            try:
                version = base.ingest([tmp_path / "articles"]).version
            except RetrieverError as error:
                refused += 1
                assert "\n" not in str(error)
                assert "free space" in str(error)
            assert base.load().version == version
            assert base.load().warning == ""
            assert not list((disk / "knowledge" / "versions").glob(".staging-*"))
        assert refused >= 3, "the disk was never full: the test proves nothing"
        (disk / "ballast").unlink()
        write_edition(tmp_path / "articles", 999)
        base.ingest([tmp_path / "articles"])
        assert editions(base) == {"999"}, "it recovers once there is room"
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
