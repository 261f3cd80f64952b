"""One SQLite file, opened so that what was acknowledged is never lost: WAL, `synchronous=FULL`, one writer.

All writing goes through one thread that puts waiting units of work into one transaction (group commit): a unit's
future resolves after the fsync of its COMMIT and not before. Readers use connections of their own and never wait
for the writer. Knows nothing about what is stored.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pysqlite3 import dbapi2 as sqlite
from sqlalchemy import URL, Connection, Engine, create_engine, event

from bot import FrontdeskError
from bot.storage.faults import BUSY_SECONDS, DiskFault, is_of_the_disk, plainly
from bot.storage.faults import RecordUnavailable as RecordUnavailable  # part of what callers of a database meet
from bot.storage.lock import FileLock
from bot.storage.migrations import bring_up_to_date

T = TypeVar("T")
Unit = Callable[[Connection], T]

_MOST_PER_COMMIT = 256
_WAL_LIMIT = 64 * 2**20


def check_sqlite(version: tuple[int, ...]) -> None:
    """Refuses a SQLite that can lose a committed write when WAL resets (3.7.0 to 3.51.2, but for two backports)."""
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    if not fixed:
        raise FrontdeskError(
            f"SQLite {'.'.join(map(str, version))} can lose committed messages (WAL-reset bug): "
            "install pysqlite3==0.6.1, which carries 3.53"
        )


class Database:
    """An open record. Use as a context manager, or call `close`; both wait for what is queued.

    Opening makes the file and brings its tables up to date. Raises FrontdeskError if the folder cannot be
    written, the file is damaged, of a newer program, or another process is restoring it.
    """

    def __init__(self, path: Path, *, most_waiting: int = 1024) -> None:
        check_sqlite(sqlite.sqlite_version_info)
        self.path = path
        if not path.parent.is_dir():
            raise FrontdeskError(f"{path.parent}: no such folder; make it, or set FRONTDESK_HOME to one that exists")
        self._lock = FileLock(path)
        self._readers = open_engine(path, "")
        self._writers = open_engine(path, "BEGIN IMMEDIATE")
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(most_waiting)
        self._closing = threading.Lock()
        self._closed = False
        self._broken = ""
        self._trouble = ""
        self._trying = False
        self.failures: Counter[str] = Counter()
        """Writes that were refused or failed, by kind."""
        try:
            with plainly(path):
                bring_up_to_date(path, self._lock, self._writers)
        except BaseException:
            self._lock.release()
            raise
        self._thread = threading.Thread(target=self._write_forever, name="record-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection whose every statement sees all that is durable by then."""
        with plainly(self.path), self._readers.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection that sees one moment of the record for as long as the block lasts. Keep it short."""
        with self.read() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.exec_driver_sql("ROLLBACK")

    def submit(self, unit: Unit[T]) -> Future[T]:
        """Queues `unit`; its future resolves once it is durable, or fails: then none of it was stored (after a
        DiskFault it may yet turn up when the file is opened anew).

        Units run in the order submitted. Raises RecordUnavailable when `most_waiting` units are queued.
        """
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise RecordUnavailable(f"{self.path.name} is closed: the service is stopping")
            try:
                self._waiting.put_nowait(_Waiting(unit, future))
            except queue.Full:
                self.failures["too_many"] += 1
                raise RecordUnavailable(
                    f"{self._waiting.maxsize} writes are waiting for the disk: try again in a moment"
                ) from None
        return future

    def write(self, unit: Unit[T]) -> T:
        """Runs `unit` and returns its result once that is durable."""
        return self.submit(unit).result()

    @property
    def problem(self) -> str:
        """Why nothing can be stored: until a restart, or until a write succeeds again. Empty when all is well."""
        return self._broken or self._trouble

    @property
    def waiting(self) -> int:
        """How many writes are queued."""
        return self._waiting.qsize()

    def try_again(self) -> None:
        """If the last write found the disk full or the file locked, writes something harmless and does not wait for it.
        Who is sent no customers because nothing can be stored would otherwise never notice that it can be again."""
        if self._trouble and not self._broken and not self._trying:
            self._trying = True
            try:
                # The same number as always, but a page that must reach the disk.
                self.submit(lambda connection: connection.exec_driver_sql("PRAGMA user_version = 0").close())
            except RecordUnavailable:
                self._trying = False

    def close(self) -> None:
        """Finishes what is queued and lets go of the file. Safe to call twice."""
        with self._closing:
            first, self._closed = not self._closed, True
        if first:
            self._waiting.put(None)
            self._thread.join()
            self._readers.dispose()
            self._writers.dispose()
            self._lock.release()

    # -- the writer thread --------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = self._gather(first)
            self._commit(batch)
            if last:
                return

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        """What is waiting now: while one batch syncs the next one gathers, so nobody waits for a timer."""
        batch = [first]
        while len(batch) < _MOST_PER_COMMIT:
            try:
                waiting = self._waiting.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                return batch, True
            batch.append(waiting)
        return batch, False

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        batch = [waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()]
        outcomes: list[tuple[_Waiting, Any, BaseException | None]] = []
        try:
            if self._broken:
                raise DiskFault(self._broken)
            with plainly(self.path), self._writers.begin() as connection:
                for waiting in batch:
                    outcomes.append(_run(waiting, connection))
        except BaseException as error:  # whatever it was, nobody in this batch may be told "stored"
            if isinstance(error, DiskFault):
                self._broken = str(error)
            self._trouble, self._trying = str(error), False
            self.failures[_kind(error)] += len(batch)
            for waiting in batch:
                waiting.future.set_exception(error)
            return
        self._trouble, self._trying = "", False
        for waiting, value, problem in outcomes:
            if problem is None:
                waiting.future.set_result(value)
            else:
                waiting.future.set_exception(problem)


def _kind(error: BaseException) -> str:
    """What failed, as the meters name it."""
    if isinstance(error, DiskFault):
        return "disk"
    return "unavailable" if isinstance(error, RecordUnavailable) else "refused"


@dataclass(frozen=True, slots=True)
class _Waiting:
    unit: Unit[Any]
    future: Future[Any]


def _run(waiting: _Waiting, connection: Connection) -> tuple[_Waiting, Any, BaseException | None]:
    """One unit in its own savepoint: a unit that fails takes nobody with it."""
    driver = connection.connection.dbapi_connection
    assert driver is not None
    driver.execute("SAVEPOINT unit")
    try:
        value = waiting.unit(connection)
        driver.execute("RELEASE unit")
        return waiting, value, None
    except Exception as error:
        # Disk full and its like make SQLite roll back the whole transaction: then there is no savepoint to go
        # back to, and every unit of the batch is gone with it.
        if is_of_the_disk(error) or not driver.in_transaction:
            raise
        driver.execute("ROLLBACK TO unit")
        driver.execute("RELEASE unit")
        return waiting, None, error


def open_engine(path: Path, begin: str) -> Engine:
    """An engine whose transactions start with `begin`, or that has none: each statement then stands alone.

    The driver's own guessing about transactions is off.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),  # a path may hold what a URL string would misread
        module=sqlite,
        isolation_level=None if begin else "AUTOCOMMIT",
        hide_parameters=True,  # an error in the log must not quote a customer
        pool_size=8,
        max_overflow=-1,
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": BUSY_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        for pragma in (
            f"busy_timeout = {BUSY_SECONDS * 1000}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "secure_delete = ON",  # what a customer asked us to forget must not stay in free pages
            f"journal_size_limit = {_WAL_LIMIT}",
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
        # SQLite's own knows the letters of English alone: nobody called Émile or Анна would find their account.
        connection.create_function("lower", 1, str.lower, deterministic=True)

    if begin:

        @event.listens_for(engine, "begin")
        def start(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

    return engine
