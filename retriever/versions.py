"""Versions on disk: folders that appear whole, prove what they hold, and are named by one pointer.

Owns staging, the manifest with its checksums, CURRENT and PREVIOUS, the lock and what is pruned. Knows nothing
about what the files mean. Whatever is killed, at any moment, leaves the old version or the new one, never a mixture.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from retriever import disk
from retriever.passages import RetrieverError

FORMAT: Final = 3
"""Raised when older versions can no longer be read; they are then refused and the articles must be ingested again."""
KEPT: Final = 5

_STAGING = ".staging-"
_NAME = re.compile(r"\d{6}-[0-9a-f]{8}")
# tantivy takes its lock in the folder it reads; the file is empty and never part of a version.
_NOT_CONTENT: Final = frozenset({".tantivy-meta.lock", ".tantivy-writer.lock"})


@dataclass(frozen=True, slots=True)
class Version:
    """A version as its manifest describes it. `created` is ISO 8601, UTC."""

    version: str
    created: str
    encoder: str
    dimension: int
    documents: int
    passages: int
    current: bool = False
    index: Mapping[str, str | int | float] = field(default_factory=dict)
    """What the manifest says of the vector index: its kind, settings and measured recall."""
    catalogue: bool = False
    """Whether the passages say the like of many entities, and are searched by a smoothed form (`smoothing.py`)."""
    joined: int = 0
    """Passages that came since all were last smoothed, or found to be none of a catalogue."""
    cut: int = 0
    """Which way of cutting texts made it."""


class VersionStore:
    """The versions under one folder: `versions/<name>/`, `CURRENT`, `PREVIOUS`, `LOCK`."""

    def __init__(self, folder: Path, kept: int = KEPT) -> None:
        self.folder = folder
        self._kept = kept
        self._versions = folder / "versions"

    def current(self) -> str | None:
        """The name in CURRENT, None when there is none. Whether that version is sound is for `check` to say."""
        return _read_pointer(self.folder / "CURRENT")

    def names(self) -> list[str]:
        """Every version on disk, oldest first, sound or not."""
        if not self._versions.is_dir():
            return []
        return sorted(entry.name for entry in self._versions.iterdir() if _NAME.fullmatch(entry.name))

    def candidates(self) -> list[str]:
        """What to try to serve, in order: CURRENT, PREVIOUS, then the rest, those before CURRENT first."""
        current = self.current()
        pointers = [current, _read_pointer(self.folder / "PREVIOUS")]
        rest = sorted(self.names(), key=lambda name: (current is not None and name > current, -int(name[:6])))
        return list(dict.fromkeys(name for name in [*pointers, *rest] if name))

    def path(self, name: str) -> Path:
        return self._versions / name

    def check(self, name: str) -> Version:
        """The version `name`, after every byte of it was compared with its manifest.

        Raises RetrieverError when a file is missing, foreign or differs. Nothing but the manifest is parsed.
        """
        folder = self.path(name)
        manifest = _read_manifest(folder)
        files = manifest.get("files")
        if manifest.get("format") != FORMAT or not isinstance(files, dict):
            raise RetrieverError(
                f"{folder}: format {manifest.get('format')!r}, this program reads {FORMAT}; ingest the articles again"
            )
        found = {path.relative_to(folder).as_posix(): path for path in _content(folder)}
        for missing in sorted(files.keys() - found.keys()):
            raise RetrieverError(f"{folder / missing}: missing; ingest the articles again or roll back")
        for foreign in sorted(found.keys() - files.keys()):
            raise RetrieverError(f"{folder / foreign}: not part of this version; remove it or ingest again")
        with ThreadPoolExecutor() as threads:  # half of what it takes to load a large version
            digests = threads.map(lambda file: _sha256(found[file]), sorted(files))
        for (file, expected), digest in zip(sorted(files.items()), digests, strict=True):
            if digest != expected:
                raise RetrieverError(f"{found[file]}: damaged (its SHA-256 differs); ingest again or roll back")
        return _version(name, manifest, current=False)

    def list(self) -> list[Version]:
        """Every version whose manifest can be read, newest first; the files are not checked."""
        current, found = self.current(), []
        for name in reversed(self.names()):
            with suppress(RetrieverError):
                found.append(_version(name, _read_manifest(self.path(name)), current=name == current))
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time, across processes; a killed one lets go. Clears what killed ones left behind."""
        with disk.locked(self.folder, "another ingest is running"):
            with disk.disk_errors(self.folder):
                self._versions.mkdir(exist_ok=True)
            self._clear()
            yield

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder to write a version into; it is gone afterwards unless `publish` took it. Hold the lock."""
        folder = self._versions / f"{_STAGING}{os.getpid()}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staging: Path, facts: Mapping[str, object], base: str | None = None) -> str:
        """Make the files in `staging` the current version and return its name. Hold the lock.

        Order: every file and folder is synced, the manifest is written last, one rename shows the whole, then one
        rename of the pointer makes it live. What is the same file as in `base`, a version that was checked under this
        lock, keeps its checksum.
        """
        for lock in staging.rglob(".tantivy-*.lock"):
            lock.unlink()
        before: Any = {} if base is None else _read_manifest(self.path(base)).get("files")
        files = {}
        for path in _content(staging):
            file = path.relative_to(staging).as_posix()
            linked = file in before and os.path.samefile(path, self.path(str(base)) / file)
            files[file] = before[file] if linked else _sha256(path)
        for path in [*staging.rglob("*"), staging]:
            disk.sync(path)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = {**facts, "format": FORMAT, "created": created, "files": files}
        name = f"{int((self.names() or ['000000'])[-1][:6]) + 1:06d}-{_fingerprint(manifest)}"
        disk.write(staging / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True).encode())
        disk.sync(staging)
        staging.rename(self.path(name))
        disk.sync(self._versions)
        self._point(name)
        self._prune()
        return name

    def rollback(self, version: str | None, check: Callable[[str], object]) -> str:
        """Make `version` live, or without one the first that passes `check` before the current one; returns its name.

        `check` raises RetrieverError for a version that cannot serve, and so does this when there is no other.
        """
        current = self.current()
        older = [name for name in self.candidates() if name != current]
        if version is not None and version not in self.names():
            raise RetrieverError(
                f"{self.folder}: has no version {version!r}; `frontdesk knowledge versions` names them"
            )
        problem = f"{self.folder}: no earlier version to go back to; ingest the articles again"
        for name in older if version is None else [version]:
            with disk.disk_errors(self.folder):
                try:
                    check(name)
                except RetrieverError as error:
                    problem = str(error)
                    continue
                self._point(name)
                return name
        raise RetrieverError(problem)

    def _point(self, name: str) -> None:
        current = self.current()
        if current is not None and current != name:
            disk.replace(self.folder / "PREVIOUS", f"{current}\n".encode())
        disk.replace(self.folder / "CURRENT", f"{name}\n".encode())

    def _prune(self) -> None:
        kept = {self.current(), _read_pointer(self.folder / "PREVIOUS"), *self.names()[-self._kept :]}
        for name in self.names():
            if name not in kept:
                # Out of sight first: a half-removed version must not look like one. The next writer clears the rest.
                gone = self._versions / f"{_STAGING}{name}"
                with suppress(OSError):
                    self.path(name).rename(gone)
                    shutil.rmtree(gone, ignore_errors=True)

    def _clear(self) -> None:
        for left in self._versions.glob(f"{_STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in self.folder.glob("*.new"):
            with suppress(OSError):
                left.unlink()


def _read_manifest(folder: Path) -> dict[str, object]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise RetrieverError(f"{path}: missing, the version is not whole; ingest again or roll back") from None
    except ValueError:
        raise RetrieverError(f"{path}: damaged; ingest again or roll back") from None
    # The folder is named by what its manifest says: one that was changed, or copied from elsewhere, does not fit.
    if not isinstance(manifest, dict) or _fingerprint(manifest) != folder.name[-8:]:
        raise RetrieverError(f"{path}: damaged or of another version; ingest again or roll back")
    return manifest


def _fingerprint(manifest: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:8]


def _version(name: str, manifest: Mapping[str, object], *, current: bool) -> Version:
    def number(key: str) -> int:
        value = manifest.get(key, 0)  # one of another format is listed too
        if not isinstance(value, int):
            raise RetrieverError(f"{name}/manifest.json: {key} is not a number; ingest again or roll back")
        return value

    index = manifest.get("index")
    return Version(
        name, str(manifest.get("created")), str(manifest.get("encoder")), number("dimension"), number("documents"),
        number("passages"), current, index if isinstance(index, dict) else {}, manifest.get("catalogue") is True,
        number("joined"), number("cut"),
    )  # fmt: skip


def _content(folder: Path) -> list[Path]:
    try:
        paths = sorted(path for path in folder.rglob("*") if not path.is_dir())
    except OSError:
        raise RetrieverError(f"{folder}: cannot be read; check its permissions") from None
    return [p for p in paths if p.name not in _NOT_CONTENT and p != folder / "manifest.json"]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RetrieverError(f"{path}: cannot be read ({error.strerror}); ingest again or roll back") from None


def _read_pointer(path: Path) -> str | None:
    try:
        name = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return name if _NAME.fullmatch(name) else None
