"""How a message feels and whether it can wait: three sentiments and urgency, from the encoder pass that reads intents.

Owns the rows it is trained on, their fit and the head. Knows nothing about the encoder: vectors are an argument. Beside
the vector it reads the letters themselves, because the default encoder hardly knows Chinese.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetune.calibrate import Doubles, Floats, Integers, softmax
from finetune.examples import FinetuneError, Problem, clean_text, parse_object, read_lines
from finetune.letters import hashed_runs

SENTIMENTS = ("negative", "neutral", "positive")
BITS = 17
BUCKETS = 1 << BITS
"""Runs of letters are hashed into so many places (2 ** 15: macro F1 .02 lower); a head keeps those that occur twice."""
LONGEST_RUN = 4
LETTERS = 2.0
"""What the letters count beside the vector: at 1 Chinese loses .06 of macro F1, English .02."""
MOST_CHARACTERS = 1_000
"""A text is read this far: a mood shows early, and a long one would cost more than the encoder."""
STRENGTH = 3.0
"""Inverse regularisation: 3 and 10 give the same within .01 of macro F1 (docs/decisions.md)."""
RECALL = 0.93
"""Share of urgent training messages, each read by a head that has not seen it, that must pass the mark of urgency."""
FOLDS = 5


@dataclass(frozen=True, slots=True)
class ToneExample:
    """A message, how a careful reader takes its writer to feel, and whether a person should look at it now."""

    text: str
    sentiment: str
    urgent: bool


@dataclass(frozen=True, slots=True)
class Tones:
    """Of n messages: `sentiment` `[n, 3]` sums to 1 in the order of SENTIMENTS; `urgency` `[n]` is urgent from .5."""

    sentiment: Doubles
    urgency: Doubles


def read_tones(path: Path) -> tuple[ToneExample, ...]:
    """Rows `{"text", "sentiment": "negative"|"neutral"|"positive", "urgent": true|false}`, one a line.

    Raises FinetuneError naming the first row that cannot be used.
    """
    rows = []
    for number, line in read_lines(path):
        try:
            if isinstance(line, Problem):
                raise ValueError(line.reason)
            rows.append(_tone_from(line))
        except ValueError as error:
            raise FinetuneError(f"{path} line {number}: {error}") from error
    return tuple(rows)


def _tone_from(line: str) -> ToneExample:
    row = parse_object(line)
    sentiment, urgent = row.get("sentiment"), row.get("urgent")
    if not isinstance(sentiment, str) or sentiment not in SENTIMENTS:
        raise ValueError(f'"sentiment" is {sentiment!r:.40}; write one of {", ".join(SENTIMENTS)}')
    if not isinstance(urgent, bool):
        raise ValueError(f'"urgent" is {urgent!r:.40}; write true or false')
    return ToneExample(clean_text(row.get("text"), "text"), sentiment, urgent)


# ------------------------------------------------------------------------------------------------------------ head


@dataclass(frozen=True, slots=True)
class ToneHead:
    """Two linear readers over a message's vector and its runs of letters: rows 0..2 of `weight` are the sentiments.

    `places` `[m]` are the buckets it knows, ascending, and `rarity` `[m]` weighs each by how few messages hold it;
    `weight` is `[4, d + m]`, `bias` `[4]`.
    """

    weight: Floats
    bias: Floats
    places: Integers
    rarity: Floats

    def read(self, texts: Sequence[str], vectors: Floats) -> Tones:
        """`vectors` `[n, d]` are unit rows of the same texts."""
        dimension = vectors.shape[1]
        scores = vectors.astype(np.float64) @ self.weight[:, :dimension].T + self.bias
        for row, text in enumerate(texts):
            known, values = _runs(text, self.places, self.rarity)
            scores[row] += self.weight[:, dimension + known] @ values
        return Tones(softmax(scores[:, :3]), 1 / (1 + np.exp(-np.clip(scores[:, 3], -60, 60))))

    def to_bytes(self) -> bytes:
        from safetensors.numpy import save

        # safetensors writes the memory as it lies: the columns of a fitted weight lie one after another.
        half = {n: np.ascontiguousarray(getattr(self, n), np.float16) for n in ("weight", "bias", "rarity")}
        return bytes(save({**half, "places": self.places.astype(np.int32)}))

    @classmethod
    def from_bytes(cls, content: bytes, dimension: int) -> ToneHead:
        """Raises FinetuneError when the tensors are not those of a head for this base."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(content)
            weight, bias, rarity = (tensors[name].astype(np.float32) for name in ("weight", "bias", "rarity"))
            places = tensors["places"].astype(np.int64)
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise FinetuneError(f"tone.safetensors: not a head of this program ({error}); train again") from error
        shapes = (weight.shape, bias.shape, rarity.shape)
        if places.ndim != 1 or shapes != ((4, dimension + len(places)), (4,), places.shape):
            raise FinetuneError("tone.safetensors: shaped for another model; train again")
        return cls(weight, bias, places, rarity)


def fit_tone(examples: Sequence[ToneExample], vectors: Floats, seed: int) -> ToneHead:
    """Fit on n messages and their unit vectors `[n, d]`; the mark of urgency is set on rows read out of fold.

    Raises FinetuneError when a sentiment, or either kind of urgency, has fewer than FOLDS messages.
    """
    from scipy.sparse import csr_matrix, hstack
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    sentiments, urgent = [e.sentiment for e in examples], np.array([e.urgent for e in examples], dtype=bool)
    counts = Counter(sentiments) + Counter({"urgent": int(urgent.sum()), "not urgent": int((~urgent).sum())})
    few = [name for name in (*SENTIMENTS, "urgent", "not urgent") if counts[name] < FOLDS]
    if few:
        raise FinetuneError(f"tone needs at least {FOLDS} messages that are {few[0]}, found {counts[few[0]]}; add some")
    places, rarity = _known_runs([e.text for e in examples])
    runs = [_runs(e.text, places, rarity) for e in examples]
    ends = np.cumsum([0, *(len(known) for known, _ in runs)])
    parts = (np.concatenate([values for _, values in runs]), np.concatenate([known for known, _ in runs]), ends)
    letters = csr_matrix(parts, shape=(len(runs), len(places)))
    inputs = hstack([csr_matrix(vectors.astype(np.float64)), letters]).tocsr()

    def reader() -> LogisticRegression:
        return LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=300, tol=1e-3, random_state=seed)

    feeling = reader().fit(inputs, [SENTIMENTS.index(s) for s in sentiments])
    waiting = reader().fit(inputs, urgent)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    unseen = cross_val_predict(reader(), inputs, urgent, cv=folds, method="decision_function")
    mark = float(np.quantile(unseen[urgent], 1 - RECALL))
    weight = np.vstack([feeling.coef_, waiting.coef_]).astype(np.float32)
    bias = np.append(feeling.intercept_, waiting.intercept_ - mark).astype(np.float32)
    return ToneHead(weight, bias, places, rarity)


# --------------------------------------------------------------------------------------------------- runs of letters


def _known_runs(texts: Sequence[str]) -> tuple[Integers, Floats]:
    """The buckets that two texts or more hold, and their smoothed inverse document frequency (Spärck Jones 1972)."""
    held = np.zeros(BUCKETS, np.int64)
    for text in texts:
        held[_counted(text)[0]] += 1
    places = np.flatnonzero(held > 1).astype(np.int64)
    return places, np.asarray(np.log((1 + len(texts)) / (1 + held[places])) + 1, np.float32)


def _runs(text: str, places: Integers, rarity: Floats) -> tuple[Integers, Doubles]:
    """Which of `places` a text holds, by number, and their weights: (1 + log count) * rarity, of length LETTERS."""
    buckets, counts = _counted(text)
    _, known, held = np.intersect1d(places, buckets, assume_unique=True, return_indices=True)
    values = (1 + np.log(counts[held])) * rarity[known]
    return known.astype(np.int64), np.asarray(LETTERS * values / max(float(np.linalg.norm(values)), 1e-9))


def _counted(text: str) -> tuple[Integers, Integers]:
    """The buckets that a text's runs of 1 to LONGEST_RUN letters fall into, and how often."""
    plain = " " + " ".join(text[:MOST_CHARACTERS].casefold().split()) + " "
    letters = np.frombuffer(plain.encode("utf-32-le", "replace"), np.uint32)
    found = [hashes >> np.uint64(64 - BITS) for hashes in hashed_runs(letters, LONGEST_RUN)]
    places, counts = np.unique(np.concatenate(found), return_counts=True)
    return places.astype(np.int64), counts.astype(np.int64)
