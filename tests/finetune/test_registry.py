"""Versions on disk: whole or absent, checked before loading, one of them live, every move on record."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from finetune.examples import FinetuneError
from finetune.registry import Manifest, Registry, read_manifest, verify

BASE = "ab" * 32
FILES = {"head.safetensors": bytes(range(256)) * 4, "adapter_config.json": b'{"r": 16}'}


def about(**changes: object) -> Manifest:
    values: dict[str, object] = {
        "version": "",
        "kind": "lora",
        "created": "",
        "base_model": BASE,
        "search_vectors": "adapted",
        "data_fingerprint": "cd" * 32,
        "rows": 10,
        "labels": ("refund", "track"),
        "parent": "",
        "config": {"seed": 0, "learning_rate": 0.001},
        "metrics": {"accuracy": 0.9, "auroc": None},
        "thresholds": {"out_of_scope": 0.5},
        "files": {},
    }
    return Manifest(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def test_a_saved_version_is_listed_shown_and_verified(registry: Registry) -> None:
    saved = registry.save(FILES, about())
    assert registry.list() == (saved,) and registry.show(saved.version) == saved
    folder = registry.folder(saved.version)
    assert verify(folder, BASE) == saved
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "manifest.json"} == FILES
    assert registry.current() is None


def test_promotion_and_rollback_walk_through_what_was_live(registry: Registry) -> None:
    first, second, third = (registry.save(FILES, about(rows=n)).version for n in range(3))
    for version in (first, second, third):
        registry.promote(version, "better", BASE)
    assert registry.rollback("complaints", BASE) == second == registry.current()
    assert registry.rollback("more complaints", BASE) == first == registry.current()
    with pytest.raises(FinetuneError, match="no earlier live version"):
        registry.rollback("again", BASE)
    registry.promote(third, "fixed", BASE)
    assert registry.rollback("no", BASE) == first
    moves = [(e.action, e.version, e.reason) for e in registry.history() if e.action != "saved"]
    assert moves[3] == ("rolled back", second, "complaints") and len(moves) == 7


def test_a_refusal_is_on_record_with_its_reason(registry: Registry) -> None:
    version = registry.save(FILES, about()).version
    registry.refuse(version, "does not beat the baseline")
    assert registry.history()[-1].reason == "does not beat the baseline"
    assert registry.current() is None


def test_a_refused_version_goes_live_by_force_only_and_that_is_on_record(registry: Registry) -> None:
    good, bad = (registry.save(FILES, about(rows=n)).version for n in range(2))
    registry.promote(good, "first", BASE, force=True)
    assert registry.history()[-1].reason == "first", "nothing was said against it"
    registry.refuse(bad, "calibration got worse")
    assert registry.refusal(bad) == "calibration got worse" and registry.refusal(good) is None
    with pytest.raises(FinetuneError, match=r"was refused: calibration got worse; --force"):
        registry.promote(bad, "try", BASE)
    assert registry.current() == good and registry.history()[-1].action == "refused"
    registry.promote(bad, "we need it", BASE, force=True)
    assert registry.current() == bad
    last = registry.history()[-1]
    assert (last.action, last.reason) == ("promoted", "forced: we need it; refused because calibration got worse")
    assert registry.rollback("no", BASE) == good
    registry.promote(bad, "once forced it is no longer refused", BASE)


def test_promoting_what_is_live_again_does_not_cost_the_way_back(registry: Registry) -> None:
    first, second = (registry.save(FILES, about(rows=n)).version for n in range(2))
    for version in (first, second, second):
        registry.promote(version, "better", BASE)
    assert registry.rollback("complaints", BASE) == first == registry.current()


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\xff\xfe"])
def test_a_damaged_pointer_is_mended_by_whatever_moves_it(registry: Registry, damage: bytes) -> None:
    first, second = (registry.save(FILES, about(rows=n)).version for n in range(2))
    registry.promote(first, "first", BASE)
    registry.promote(second, "second", BASE)
    pointer = registry.root / "CURRENT"
    pointer.write_bytes(damage)
    with pytest.raises(FinetuneError, match="promote one again"):
        registry.current()
    registry.refuse(registry.save(FILES, about(rows=3)).version, "worse")
    registry.promote(second, "again", BASE)
    assert registry.current() == second
    pointer.write_bytes(damage)
    assert registry.rollback("complaints", BASE) == first == registry.current()
    assert "interrupted" not in {e.action for e in registry.history()}


def test_a_forced_promotion_that_died_does_not_undo_the_refusal(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = (registry.save(FILES, about(rows=n)).version for n in range(2))
    registry.promote(good, "first", BASE)
    registry.refuse(bad, "calibration got worse")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("finetune.registry._write", killed)
        registry.promote(bad, "we need it", BASE, force=True)
    with pytest.raises(FinetuneError, match="was refused: calibration got worse"):
        registry.promote(bad, "try", BASE)
    assert registry.history()[-1].action == "interrupted" and registry.current() == good
    assert registry.refusal(bad) == "calibration got worse"
    registry.promote(bad, "we need it", BASE, force=True)
    assert registry.rollback("no", BASE) == good


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_one_file_is_checked_before_it_is_given(registry: Registry) -> None:
    version = registry.save({**FILES, "report.json": b"{}"}, about()).version
    assert registry.file(version, "report.json") == b"{}" and registry.file(version, "training.png") is None
    (registry.folder(version) / "report.json").write_bytes(b"[]")
    with pytest.raises(FinetuneError, match=r"report\.json: does not match its manifest"):
        registry.file(version, "report.json")


@pytest.mark.parametrize("name", ["none", "../models", "20260101-000000-00000000", ""])
def test_an_unknown_version_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(FinetuneError, match="no model version"):
        registry.promote(name, "x", BASE)


def test_files_that_no_version_may_hold_are_refused(registry: Registry) -> None:
    with pytest.raises(FinetuneError, match=r"training_args\.bin"):
        registry.save({**FILES, "training_args.bin": b""}, about())
    version = registry.save(FILES, about()).version
    (registry.folder(version) / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(FinetuneError, match=r"pytorch_model\.bin"):
        verify(registry.folder(version), BASE)


def test_a_version_with_a_metric_that_is_no_number_is_not_saved(registry: Registry) -> None:
    with pytest.raises(FinetuneError, match="accuracy is nan"):
        registry.save(FILES, about(metrics={"accuracy": float("nan")}))
    assert registry.list() == ()


def test_a_foreign_base_is_refused(registry: Registry) -> None:
    version = registry.save(FILES, about()).version
    with pytest.raises(FinetuneError, match="made for base model abab"):
        registry.promote(version, "x", "00" * 32)
    assert registry.current() is None


def test_every_mutation_of_a_version_is_detected(registry: Registry) -> None:
    """Bit flips, cuts, growth, swapped, missing and linked files."""
    version = registry.save(FILES, about()).version
    folder = registry.folder(version)
    originals = {path: path.read_bytes() for path in folder.iterdir()}
    numbers = random.Random(0)
    for trial in range(300):
        path = numbers.choice(sorted(originals))
        content = bytearray(originals[path])
        place = numbers.randrange(len(content))
        match trial % 3:
            case 0:
                content[place] ^= 1 << numbers.randrange(8)
            case 1:
                del content[place:]
            case _:
                content.insert(place, numbers.randrange(256))
        path.write_bytes(content)
        with pytest.raises(FinetuneError):
            verify(folder, BASE)
        path.write_bytes(originals[path])
    for path in originals:
        path.rename(folder.parent / "aside")
        with pytest.raises(FinetuneError):
            verify(folder, BASE)
        path.symlink_to(folder.parent / "aside")
        if path.name != "manifest.json":
            with pytest.raises(FinetuneError):
                verify(folder, BASE)
        path.unlink()
        (folder.parent / "aside").rename(path)
    assert verify(folder, BASE).version == version, "untouched again, it is accepted"


def test_a_version_under_another_name_is_refused(registry: Registry) -> None:
    one, two = (registry.save(FILES, about(rows=n)).version for n in range(2))
    (registry.folder(one) / "manifest.json").write_bytes((registry.folder(two) / "manifest.json").read_bytes())
    with pytest.raises(FinetuneError, match=f"holds version {two}"):
        verify(registry.folder(one), BASE)


def test_a_resealed_manifest_with_a_strange_file_is_refused(registry: Registry) -> None:
    version = registry.save(FILES, about()).version
    path = registry.folder(version) / "manifest.json"
    value = json.loads(path.read_bytes())
    value["files"]["../../../etc/passwd"] = {"sha256": "0" * 64, "bytes": 1}
    path.write_text(json.dumps(value))
    with pytest.raises(FinetuneError):
        read_manifest(registry.folder(version))


def test_a_damaged_version_is_not_promoted_and_the_live_one_stays(registry: Registry) -> None:
    good, bad = (registry.save(FILES, about(rows=n)).version for n in range(2))
    registry.promote(good, "first", BASE)
    (registry.folder(bad) / "head.safetensors").write_bytes(b"x")
    with pytest.raises(FinetuneError, match="does not match its manifest"):
        registry.promote(bad, "second", BASE)
    assert registry.current() == good


def test_a_torn_line_of_the_audit_log_does_not_hide_the_others(registry: Registry) -> None:
    version = registry.save(FILES, about()).version
    with (registry.root / "audit.jsonl").open("ab") as log:
        log.write(b'\n{"at": "2026')
    registry.promote(version, "x", BASE)
    assert [e.action for e in registry.history()] == ["saved", "promoted"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file in the way")
    with pytest.raises(FinetuneError, match="cannot be written"):
        Registry(tmp_path / "models").save(FILES, about())


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond 600 bytes; kept short, for it holds for the log of the tests too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_no_half_version(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models")
    with full_disk(), pytest.raises(FinetuneError, match="cannot be written"):
        registry.save(FILES, about())
    assert registry.list() == () and not list((tmp_path / "models" / "versions").iterdir())


CHILD = """
import os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.finetune.test_registry import BASE, FILES, about
from finetune.registry import Registry
dies_at, calls = {dies_at}, 0
def guarded(real):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == dies_at:
            os._exit(137)
        return real(*args, **kwargs)
    return call
if dies_at:
    for name in ("fsync", "rename", "replace", "mkdir"):
        setattr(os, name, guarded(getattr(os, name)))
registry = Registry(Path({folder!r}))
print("ready", flush=True)
while True:
    version = registry.save(FILES, about()).version
    registry.promote(version, "loop", BASE)
    print(version, flush=True)
    if dies_at and calls < dies_at:
        continue
"""


def child(folder: Path, dies_at: int) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    script = CHILD.format(root=root, folder=str(folder), dies_at=dies_at)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root)


def check_after_a_kill(folder: Path, acknowledged: list[str]) -> None:
    """What was said to be live is live or was followed by a whole version; pointer, versions and log agree."""
    registry = Registry(folder)
    current = registry.current()
    whole = [m.version for m in registry.list()]
    versions = folder / "versions"
    seen = {p.name for p in versions.iterdir() if not p.name.startswith(".")} if versions.exists() else set()
    assert seen == set(whole), "no broken version under its final name"
    for version in whole:
        verify(registry.folder(version), BASE)
    assert set(acknowledged) <= set(whole)
    if acknowledged:
        assert current == acknowledged[-1] or current not in acknowledged
    if current:
        assert current in whole
    saved = registry.save(FILES, about())
    moves = [e for e in registry.history() if e.action in ("promoted", "interrupted")]
    if moves:
        assert (moves[-1].version if moves[-1].action == "promoted" else moves[-1].previous) == (current or "")
    registry.promote(saved.version, "after the kill", BASE)
    assert registry.current() == saved.version
    assert not list(versions.glob(".staging-*"))


@pytest.mark.slow
@pytest.mark.parametrize("dies_at", range(1, 25))
def test_a_death_at_every_write_boundary_leaves_old_or_new(tmp_path: Path, dies_at: int) -> None:
    process = child(tmp_path / "models", dies_at)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 137
    check_after_a_kill(tmp_path / "models", output.split()[1:])


@pytest.mark.slow
def test_twenty_kills_at_random_moments_leave_old_or_new(tmp_path: Path) -> None:
    numbers = random.Random(0)
    for trial in range(20):
        folder = tmp_path / f"models{trial}"
        process = child(folder, 0)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(numbers.uniform(0.001, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
        lines = output.split("\n")
        check_after_a_kill(folder, [line for line in lines[:-1] if line])
