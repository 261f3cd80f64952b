"""Versions of the question model on disk: whole, checked, immutable; one of them is live.

Owns the manifest, the pointer `CURRENT` and the audit log. Knows nothing about what the tensors mean. A version is a
folder that appears by one rename; only safetensors, JSON and one graph with known names are ever read.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from finetune.examples import FinetuneError

MANIFEST = "manifest.json"
REPORT = "report.json"
RISK_COVERAGE = "risk_coverage.png"
TRAINING = "training.png"
MODEL_FILES = frozenset(
    {
        *("adapter_config.json", "adapter_model.safetensors", "flow.safetensors", "head.safetensors"),
        *("letters.safetensors", "precedents.safetensors", "question.onnx", "question-int8.onnx"),
        *("smoothing.safetensors", "tone.safetensors"),
    }
)
"""What a model is loaded from."""
ALLOWED_FILES = MODEL_FILES | {REPORT, RISK_COVERAGE, TRAINING}
"""Everything a version may hold besides its manifest. No format that can run code is among them."""

Kind = Literal["baseline", "lora"]
Space = Literal["adapted", "frozen"]
Scalar = float | int | str | bool | None

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of a version as the manifest promises it."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version is, and how it came about. Written last; `files` seals everything beside it."""

    version: str
    kind: Kind
    created: str
    base_model: str
    """SHA-256 of the weights of the frozen base; another base is refused."""
    search_vectors: Space
    data_fingerprint: str
    rows: int
    labels: tuple[str, ...]
    parent: str
    config: Mapping[str, Scalar]
    metrics: Mapping[str, float | None]
    thresholds: Mapping[str, float]
    files: Mapping[str, Stored]
    seal: str = ""
    """SHA-256 of the manifest itself without this field."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit log."""

    at: str
    action: Literal["saved", "promoted", "refused", "rolled back", "interrupted"]
    version: str
    previous: str
    reason: str


# --------------------------------------------------------------------------------------------------- verification


def verify(folder: Path, base_model: str) -> Manifest:
    """Check a version against its manifest and the base that is to carry it, before anything of it is loaded.

    Raises FinetuneError naming what is wrong.
    """
    manifest = read_manifest(folder)
    cure = "roll back to another version or train again"
    if manifest.version != folder.name:
        raise FinetuneError(f"{folder}: holds version {manifest.version}, not {folder.name}; {cure}")
    if manifest.base_model != base_model:
        raise FinetuneError(
            f"{folder}: made for base model {manifest.base_model[:12]}, but {base_model[:12]} is installed; "
            "set the base model it was trained with, or train again"
        )
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    if present != set(manifest.files):
        odd = ", ".join(sorted(present ^ set(manifest.files)))
        raise FinetuneError(f"{folder}: files and manifest differ ({odd}); {cure}")
    for name, stored in manifest.files.items():
        _checked(folder / name, stored)
    return manifest


def _checked(path: Path, stored: Stored) -> bytes:
    """The bytes of a file of a version. Raises FinetuneError when they are not those that were saved."""
    cure = "roll back to another version or train again"
    if path.is_symlink() or not path.is_file():
        raise FinetuneError(f"{path}: is not a plain file; {cure}")
    # A file of another size is not read: it may be of any size.
    if path.stat().st_size != stored.bytes or _digest(content := path.read_bytes()) != stored.sha256:
        raise FinetuneError(f"{path}: does not match its manifest; {cure}")
    return content


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a version, its seal and its file names checked. Raises FinetuneError."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        value = json.loads(content)
        files = {name: Stored(str(f["sha256"]), int(f["bytes"])) for name, f in value.pop("files").items()}
        manifest = Manifest(**{**value, "labels": tuple(value["labels"])}, files=files)
    except OSError as error:
        raise FinetuneError(f"{path}: cannot be read ({error.strerror}); the version is not whole") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FinetuneError(f"{path}: is not a manifest of this program; train again") from error
    if manifest.seal != _seal(manifest) or content != _json(manifest):
        raise FinetuneError(f"{path}: was changed after it was written; roll back or train again")
    strange = set(manifest.files) - ALLOWED_FILES
    if strange:
        raise FinetuneError(f"{path}: lists files no version may hold ({', '.join(sorted(strange))}); train again")
    return manifest


def _seal(manifest: Manifest) -> str:
    return _digest(_json(replace(manifest, seal="")))


def _json(manifest: Manifest) -> bytes:
    return json.dumps(asdict(manifest), indent=2, sort_keys=True, ensure_ascii=False).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# -------------------------------------------------------------------------------------------------------- registry


class Registry:
    """The versions under one folder: `versions/<id>/`, `CURRENT`, `audit.jsonl`. Safe to use from two processes."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self._versions = folder / "versions"
        self._pointer = folder / "CURRENT"
        self._log = folder / "audit.jsonl"

    def folder(self, version: str) -> Path:
        """Where a version lives. Raises FinetuneError for one that does not exist."""
        path = self._versions / version
        if not _ID.fullmatch(version) or not path.is_dir():
            known = ", ".join(m.version for m in self.list()) or "none yet"
            raise FinetuneError(f"no model version {version!r:.40}; there are: {known}")
        return path

    def list(self) -> tuple[Manifest, ...]:
        """All whole versions, oldest first; a damaged one is left out (`show` says what is wrong with it)."""
        found = []
        for path in self._versions.iterdir() if self._versions.is_dir() else ():
            # What a killed writer left in staging is no version, however whole it looks.
            with suppress(FinetuneError):
                if _ID.fullmatch(path.name):
                    found.append(read_manifest(path))
        return tuple(sorted(found, key=lambda m: (m.created, m.version)))

    def show(self, version: str) -> Manifest:
        return read_manifest(self.folder(version))

    def file(self, version: str, name: str) -> bytes | None:
        """One file of a version, checked against its manifest; None when the version was saved without it."""
        stored = self.show(version).files.get(name)
        return None if stored is None else _checked(self.folder(version) / name, stored)

    def current(self) -> str | None:
        """The live version, None before the first promotion."""
        try:
            version = self._pointer.read_text("ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise FinetuneError(f"{self._pointer}: cannot be read; promote one again") from error
        if not _ID.fullmatch(version):
            raise FinetuneError(f"{self._pointer}: names no version ({version!r:.40}); promote one again")
        return version

    def save(self, files: Mapping[str, bytes], about: Manifest) -> Manifest:
        """Write a version whole and return its sealed manifest; `version`, `created`, `files` are filled in here.

        Raises FinetuneError with nothing left behind when the disk refuses.
        """
        strange = set(files) - ALLOWED_FILES
        if strange:
            raise FinetuneError(f"a version may not hold {', '.join(sorted(strange))}; only {sorted(ALLOWED_FILES)}")
        for name, value in about.metrics.items():
            if value is not None and not math.isfinite(value):
                raise FinetuneError(f"the metric {name} is {value}; a version must be measured before it is saved")
        stored = {name: Stored(_digest(content), len(content)) for name, content in sorted(files.items())}
        now = datetime.now(UTC)
        draft = replace(about, created=now.isoformat(timespec="microseconds"), files=stored, seal="")
        version = f"{now:%Y%m%d-%H%M%S}-{_digest(_json(draft))[:8]}"
        draft = replace(draft, version=version)
        sealed = replace(draft, seal=_seal(draft))
        with self._locked():
            self._sweep()
            staging = self._versions / f".staging-{os.getpid()}-{version}"
            try:
                staging.mkdir(parents=True)
                for name, content in files.items():
                    _write(staging / name, content)
                _write(staging / MANIFEST, _json(sealed))
                _sync(staging)
                os.rename(staging, self._versions / version)
                _sync(self._versions)
            except OSError as error:
                shutil.rmtree(staging, ignore_errors=True)
                raise _cannot_write(self._versions, error) from error
            self._record("saved", version, about.parent, about.kind)
        return sealed

    def promote(self, version: str, reason: str, base_model: str, force: bool = False) -> None:
        """Make a version live, after checking every byte of it. The log line is written before the switch.

        Raises FinetuneError for a version that was refused, unless it is forced, which goes on record.
        """
        verify(self.folder(version), base_model)
        with self._locked():
            # Asked under the lock: by then a forced promotion that died is known not to have been one.
            refusal = self.refusal(version)
            if refusal is not None:
                if not force:
                    raise FinetuneError(f"{version} was refused: {refusal}; --force makes it live all the same")
                reason = f"forced: {reason}; refused because {refusal}"
            self._switch("promoted", version, reason)

    def refusal(self, version: str) -> str | None:
        """Why a version may not go live; None when nothing was said against it, or it went live since."""
        said = [e for e in self._happened() if e.version == version and e.action != "saved"]
        return said[-1].reason if said and said[-1].action == "refused" else None

    def refuse(self, version: str, reason: str) -> None:
        """Note in the audit log why a version did not go live."""
        with self._locked():
            self._record("refused", version, self._live(), reason)

    def rollback(self, reason: str, base_model: str) -> str:
        """Make live again what was live before the current version; returns its id."""
        with self._locked():
            live = self._live()
            moves = [e for e in self._happened() if e.version == live and e.action == "promoted"]
            # Promoting what was live already was no arrival.
            arrivals = [e for e in moves if e.previous != live]
            previous = arrivals[-1].previous if arrivals else ""
            if not previous:
                raise FinetuneError("there is no earlier live version to roll back to; promote one by its id")
            verify(self.folder(previous), base_model)
            self._switch("rolled back", previous, reason)
        return previous

    def history(self) -> tuple[Event, ...]:
        """The audit log, oldest first. A last line torn by a crash is left out."""
        try:
            lines = self._log.read_bytes().split(b"\n")
        except FileNotFoundError:
            return ()
        events = []
        for line in lines:
            try:
                events.append(Event(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return tuple(events)

    def _happened(self) -> tuple[Event, ...]:
        """The audit log without the moves that were interrupted, for nothing came of them."""
        events: list[Event] = []
        for event in self.history():
            if event.action != "interrupted":
                events.append(event)
            elif (move := _last_move(events)) is not None and move.version == event.version:
                events.remove(move)
        return tuple(events)

    def _live(self) -> str:
        """The live version, empty before the first promotion; by the log when the pointer is damaged, so that another
        switch can mend it."""
        try:
            return self.current() or ""
        except FinetuneError:
            move = _last_move(self._happened())
            return "" if move is None else move.version

    def _switch(self, action: Literal["promoted", "rolled back"], version: str, reason: str) -> None:
        self._record(action, version, self._live(), reason)
        staged = self.root / f".CURRENT-{os.getpid()}"
        try:
            _write(staged, f"{version}\n".encode("ascii"))
            os.replace(staged, self._pointer)
            _sync(self.root)
        except OSError as error:
            raise _cannot_write(self.root, error) from error

    def _record(self, action: str, version: str, previous: str, reason: str) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = {"at": at, "action": action, "version": version, "previous": previous, "reason": reason}
        # A leading line break ends a line that a crash may have torn.
        line = "\n" + json.dumps(row, ensure_ascii=False) + "\n"
        try:
            with self._log.open("ab") as log:
                log.write(line.encode())
                log.flush()
                os.fsync(log.fileno())
        except OSError as error:
            raise _cannot_write(self.root, error) from error

    def _repair(self) -> None:
        """A promotion that died between its log line and the switch is noted as interrupted."""
        moves = [e for e in self.history() if e.action in ("promoted", "rolled back", "interrupted")]
        current = self._live()
        if moves and moves[-1].version != current and moves[-1].action != "interrupted":
            self._record("interrupted", moves[-1].version, current, "the program ended before the switch")

    def _sweep(self) -> None:
        """Remove what killed writers left; under the lock nobody else is staging."""
        for path in self._versions.glob(".staging-*") if self._versions.is_dir() else ():
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._versions.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _cannot_write(self.root, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._repair()
            yield
        finally:
            os.close(lock)


def _last_move(events: Sequence[Event]) -> Event | None:
    return next((e for e in reversed(events) if e.action in ("promoted", "rolled back")), None)


def _cannot_write(folder: Path, error: OSError) -> FinetuneError:
    return FinetuneError(f"{folder}: cannot be written ({error.strerror}); free space or fix its rights")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
