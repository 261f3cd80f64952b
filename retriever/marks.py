"""What every passage is marked with: its source, and what it is filed under. As columns, so that none is read for it.

Owns the columns and how they are taken over from version to version. Knows nothing about what a mark is good for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retriever.lines import Order
from retriever.passages import Passage, RetrieverError

NAMES: Final = "marks.json"
NUMBERS: Final = "marks.npy"


class Column(NamedTuple):
    """One mark of each passage: `names[numbers[row]]`. Each name is some passage's, in the order of the first."""

    names: tuple[str, ...]
    numbers: NDArray[np.int32]

    @classmethod
    def of(cls, values: Iterable[str]) -> Column:
        number: dict[str, int] = {}
        numbers = np.array([number.setdefault(value, len(number)) for value in values], np.int32)
        return cls(tuple(number), numbers)

    def values(self) -> list[str]:
        return [self.names[number] for number in self.numbers.tolist()]

    def then(self, other: Column, order: Order) -> Column:
        """The rows of this column and then of the other, in `order`."""
        number = {name: i for i, name in enumerate(self.names)}
        further = np.array([number.setdefault(name, len(number)) for name in other.names], np.int32)
        numbers = np.concatenate([self.numbers, further[other.numbers]])[order]
        used, first, again = np.unique(numbers, return_index=True, return_inverse=True)
        names, by_first = tuple(number), np.argsort(first)
        place = np.empty(len(used), np.int32)
        place[by_first] = np.arange(len(used))
        return Column(tuple(names[i] for i in used[by_first].tolist()), place[again])


@dataclass(frozen=True, slots=True)
class Marks:
    """The columns of the passages of one version, row by row."""

    source: Column
    title: Column
    """Of its document; empty where the passage has an entity, or is the answer to one question."""
    entity: Column
    domain: Column
    language: Column
    audience: Column

    @classmethod
    def of(cls, passages: Sequence[Passage]) -> Marks:
        return cls(
            Column.of(p.source for p in passages),
            Column.of("" if p.entity or p.question else p.title for p in passages),
            *(Column.of(getattr(p, name) for p in passages) for name in ("entity", "domain", "language", "audience")),
        )

    @classmethod
    def load(cls, folder: Path, rows: int) -> Marks:
        """Raises RetrieverError when `folder` holds none for so many passages."""
        try:
            names = json.loads((folder / NAMES).read_bytes())
            numbers = np.load(folder / NUMBERS, allow_pickle=False)
            columns = [Column(tuple(names[each.name]), numbers[i]) for i, each in enumerate(fields(cls))]
            if numbers.shape[1] != rows or any(int(one.numbers.max(initial=-1)) >= len(one.names) for one in columns):
                raise ValueError(f"marks of {numbers.shape[1]} passages instead of {rows}")
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise RetrieverError(f"{folder / NAMES}: not readable ({error}); ingest again or roll back") from None
        return cls(*columns)

    def save(self, folder: Path) -> None:
        columns = {each.name: getattr(self, each.name) for each in fields(self)}
        names = {name: column.names for name, column in columns.items()}
        (folder / NAMES).write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
        np.save(folder / NUMBERS, np.stack([column.numbers for column in columns.values()]))

    def then(self, other: Marks, order: Order) -> Marks:
        """The passages marked here and then the others, in `order`."""
        return Marks(*(getattr(self, f.name).then(getattr(other, f.name), order) for f in fields(self)))
