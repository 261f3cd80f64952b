"""Personal data in a conversation becomes placeholders before it is stored: "[email-1]", "[phone-2]", "[name-1]".

Owns the numbering, the same value the same number throughout a conversation, and the report of what was masked. What is
personal is said by `personal`. Knows nothing about files or training rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from finetune.names import bare_name, party_pattern, same_person
from finetune.personal import PLACEHOLDER, Personal, find_personal

_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff\u00ad"))
"""Characters without width that only hide a value."""


@dataclass(frozen=True, slots=True)
class Masked:
    """Report on one kind: how many values were masked, in how many conversations. Never the values."""

    kind: str
    values: int
    conversations: int


def mask_texts(texts: Sequence[str], names: Sequence[str] = ()) -> tuple[tuple[str, ...], Counter[str]]:
    """The texts of one conversation with personal values replaced, and how many of each kind.

    The same value has the same number throughout, another value another one. A name that is introduced once, or is in
    `names`, is masked wherever it stands. Masking twice changes nothing.
    """
    masked = [text.translate(_INVISIBLE) for text in texts]
    numbers = _Numbers(masked)
    counts: Counter[str] = Counter()
    known = dict.fromkeys(names)
    parties = party_pattern(tuple(known))
    found = {index: find_personal(text, parties) for index, text in enumerate(masked)}
    again: Iterable[int]
    while found := {index: personals for index, personals in found.items() if personals}:
        introduced = {one.value for personals in found.values() for one in personals if one.kind == "name"} - set(known)
        if introduced:
            known |= dict.fromkeys(sorted(introduced))
            parties = party_pattern(tuple(known))
            again = range(len(masked))
        else:
            for index, personals in found.items():
                counts.update(one.kind for one in personals)
                masked[index] = _replaced(masked[index], personals, numbers)
            # A placeholder may have made room for what was not found beside the value.
            again = found.keys()
        found = {index: find_personal(masked[index], parties) for index in again}
    return tuple(masked), counts


def mask(text: str, names: Sequence[str] = ()) -> tuple[str, dict[str, int]]:
    """One text as a conversation of its own: the masked text, and how many values of each kind."""
    (masked,), counts = mask_texts((text,), names)
    return masked, dict(counts)


class _Numbers:
    """Numbers of the values of one conversation, by kind. Placeholders that it came with keep theirs."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._given: dict[tuple[str, str], int] = {}
        self._names: dict[str, int] = {}
        self._full: dict[int, str] = {}
        """The longest name that each person was called by."""
        self._last: Counter[str] = Counter()
        for text in texts:
            for kind, number in PLACEHOLDER.findall(text):
                self._last[kind] = max(self._last[kind], int(number))

    def of(self, personal: Personal) -> int:
        key = (personal.kind, personal.value)
        if key not in self._given:
            self._given[key] = self._same_person(personal.value) if personal.kind == "name" else self._next(key[0])
        return self._given[key]

    def _next(self, kind: str) -> int:
        self._last[kind] += 1
        return self._last[kind]

    def _same_person(self, name: str) -> int:
        """The number of the one person who may be meant; a new one where nobody is, or one of several."""
        name = bare_name(name)
        if name not in self._names:
            may_be = [number for number, full in self._full.items() if same_person(name, full)]
            number = may_be[0] if len(may_be) == 1 else self._next("name")
            if len(may_be) <= 1:
                self._full[number] = max(self._full.get(number, name), name, key=len)
            self._names[name] = number
        return self._names[name]


def _replaced(text: str, personals: Sequence[Personal], numbers: _Numbers) -> str:
    pieces: list[str] = []
    end = 0
    for personal in personals:
        pieces += (text[end : personal.start], f"[{personal.kind}-{numbers.of(personal)}]")
        end = personal.end
    return "".join((*pieces, text[end:]))


class MaskingReport:
    """Adds up what was masked, conversation by conversation."""

    def __init__(self) -> None:
        self._values: Counter[str] = Counter()
        self._conversations: Counter[str] = Counter()

    def add(self, counts: Mapping[str, int]) -> None:
        self._values.update(counts)
        self._conversations.update(counts.keys())

    def kinds(self) -> tuple[Masked, ...]:
        return tuple(Masked(kind, self._values[kind], self._conversations[kind]) for kind in sorted(self._values))
