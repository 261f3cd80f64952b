"""Measures discovery on the public sets, whose labels it does not see: clusterings, answers, planted wrong labels.

`python -m tests.bench.discovery` (some fifteen minutes on one core) puts the tables into docs/benchmarks.md between the
marks of this suite; with `--print` it only prints. Nothing is chosen here: the defaults of finetune/clusters.py and
finetune/label_errors.py are measured beside what they were chosen from.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from finetune import topics
from finetune.calibrate import Floats, Integers
from finetune.clusters import CUT, SAMPLE, centroids, cluster, fit_space, place, sampled
from finetune.encoder import Encoder
from finetune.examples import Example, read_examples
from finetune.label_errors import Judged, LabelError, confusable, judge, label_errors
from finetune.leaks import leak_groups
from finetune.model import features
from finetune.transcripts import examples_from, read_dialogues
from retriever.encoders import weights_folder
from tests.bench.page import put
from tests.conftest import SHARED

SETS = ("banking77", "clinc150")
LEAST = topics.LEAST
Labels = NDArray[np.int64]


def read(name: str, encoder: Encoder) -> tuple[list[str], list[str], Floats]:
    """Texts, intents (empty: out of scope) and frozen vectors of the training rows."""
    rows = read_examples(SHARED / name / "train.jsonl").examples
    texts = [row.text for row in rows]
    return texts, [row.intent or "" for row in rows], encoder.encode(encoder.frozen, [(text, ()) for text in texts])[0]


# ---------------------------------------------------------------------------------------------------- clusterings


def ours(vectors: Floats) -> Labels:
    chosen = sampled(len(vectors), SAMPLE, 0)
    space = fit_space(vectors[chosen])
    seen = space.project(vectors[chosen])
    means = centroids(seen, cluster(seen), np.ones(len(seen), np.int64), LEAST)
    return place(space.project(vectors), means)[0]


def average_linkage(cut: float) -> Callable[[Floats], Labels]:
    """Of the plain cosine: no middle, no axes."""

    def run(vectors: Floats) -> Labels:
        chosen = sampled(len(vectors), SAMPLE, 0)
        seen = vectors[chosen]
        means = centroids(seen, cluster(seen, cut), np.ones(len(seen), np.int64), LEAST)
        return place(vectors, means, cut)[0]

    return run


def hdbscan(axes: int, method: str) -> Callable[[Floats], Labels]:
    """BERTopic's clustering (HDBSCAN), on as many main axes; 0: on the vectors as they are."""

    def run(vectors: Floats) -> Labels:
        from sklearn.cluster import HDBSCAN
        from sklearn.decomposition import PCA

        rows = vectors if not axes else PCA(axes, random_state=0).fit_transform(vectors)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return HDBSCAN(min_cluster_size=LEAST, cluster_selection_method=method, copy=True).fit_predict(rows)

    return run


def k_means(vectors: Floats) -> Labels:
    """As many clusters as give the best silhouette on 3,000 rows."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import silhouette_score

    best, found = -1.0, np.zeros(len(vectors), np.int64)
    for count in (10, 20, 40, 80, 120, 160, 240, 320):
        if count < len(vectors) // 2:
            labels = MiniBatchKMeans(count, random_state=0, n_init=3, batch_size=1024).fit_predict(vectors)
            score = silhouette_score(vectors, labels, sample_size=min(3000, len(vectors)), random_state=0)
            if score > best:
                best, found = float(score), labels
    return found


METHODS: dict[str, Callable[[Floats], Labels]] = {
    f"**average linkage at {CUT} in 50 main axes (ours)**": ours,
    "average linkage at .4, plain cosine": average_linkage(0.4),
    "average linkage at .6, plain cosine": average_linkage(0.6),
    "HDBSCAN": hdbscan(0, "eom"),
    "HDBSCAN, 50 main axes": hdbscan(50, "eom"),
    "HDBSCAN, 50 main axes, leaves": hdbscan(50, "leaf"),
    "k-means, k by silhouette": k_means,
}


def draws(intents: Sequence[str]) -> dict[str, Integers]:
    """All rows; 500 of them; few intents that are most of the rows, as companies have it; one intent that is 40 %."""
    random = np.random.default_rng(0)
    names = np.array(intents)
    skewed: list[int] = []
    for place_, name in enumerate(random.permutation(np.unique(names))):
        rows = np.flatnonzero(names == name)
        skewed += random.choice(rows, min(len(rows), int(150 / (place_ + 1) ** 0.7)), replace=False).tolist()
    large = np.flatnonzero(names == random.choice(names[names != ""]))[:100]
    rest = random.choice(np.flatnonzero(~np.isin(np.arange(len(names)), large)), 150, replace=False)
    return {
        "all": np.arange(len(names)),
        "500": random.choice(len(names), 500, replace=False),
        "skewed": np.array(skewed),
        "one of them 40 %": np.concatenate([large, rest]),
    }


def quality(labels: Labels, truth: Sequence[str]) -> dict[str, float | str]:
    """Rows in no cluster of at least LEAST count as a cluster each. `found`: intents that are most of some cluster."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    names, numbers = np.unique(np.array(truth), return_inverse=True)
    labels = labels.copy()
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    labels[np.isin(labels, np.flatnonzero(sizes < LEAST))] = -1
    inside = labels >= 0
    alone = np.where(inside, labels, labels.max() + 1 + np.arange(len(labels)))
    pure, found, clusters = 0, set(), np.unique(labels[inside])
    for one in clusters:
        counts = np.bincount(numbers[labels == one])
        pure += counts.max()
        if 2 * counts.max() >= counts.sum():
            found.add(names[counts.argmax()])
    return {
        "clusters": f"{len(clusters)} of {len(names)}",
        "ARI": float(adjusted_rand_score(numbers, alone)),
        "NMI": float(normalized_mutual_info_score(numbers, alone)),
        "purity": pure / max(1, int(inside.sum())),
        "coverage": float(inside.mean()),
        "found": f"{len(found)}",
    }


def cluster_tables(name: str, intents: Sequence[str], vectors: Floats) -> list[str]:
    tables = []
    for draw, rows in draws(intents).items():
        truth = [intents[i] for i in rows]
        columns = "clusters of intents | ARI | NMI | purity | coverage | intents found | s"
        lines = [f"| {name}, {draw} ({len(rows):,} rows) | {columns} |", "|---" * 8 + "|"]
        for method, run in METHODS.items():
            start = time.perf_counter()
            labels = run(vectors[rows])
            seconds = time.perf_counter() - start
            cells = [f"{v:.3f}" if isinstance(v, float) else v for v in quality(labels, truth).values()]
            lines.append("| " + " | ".join([method, *cells, f"{seconds:.1f}"]) + " |")
            print(lines[-1], flush=True)
        tables.append("\n".join(lines))
    return tables


# -------------------------------------------------------------------------------------------------------- answers


def answer_line(encoder: Encoder) -> str:
    """STAR: replies whose canned template is hidden; how pure is what is proposed as one answer?"""
    rows = [
        row
        for dialogue in read_dialogues(SHARED / "star" / "transcripts.jsonl", "jsonl")
        if not hasattr(dialogue, "reason")
        for row in examples_from(dialogue)  # type: ignore[arg-type]
        if row.answer and row.intent not in (None, "custom", "out_of_scope")
    ]
    truth = [row.intent or "" for row in rows]
    hidden = [Example(row.text, None, row.history, row.answer, (), row.group) for row in rows]
    asked = encoder.encode(encoder.frozen, [(row.text, row.history) for row in hidden])[1]
    said = encoder.vectors(encoder.frozen, encoder.tokenise([(row.answer, ()) for row in hidden])[0])
    found, _ = topics.repeated_answers(hidden, range(len(hidden)), asked.__getitem__, said.__getitem__, 0)
    pure, seen = 0, set()
    for topic in found:
        names, counts = np.unique([truth[i] for i in topic.rows], return_counts=True)
        pure += int(counts.max())
        seen.add(str(names[counts.argmax()]))
    listed = sum(len(topic.rows) for topic in found)
    return (
        f"STAR, {len(rows):,} replies of {len(set(truth))} canned templates, templates hidden: {len(found)} answers "
        f"proposed, {pure / listed:.3f} of what they list is of one template, {len(seen)} templates among them."
    )


# --------------------------------------------------------------------------------------------------- wrong labels


def planted(intents: Labels, vectors: Floats, kind: str, seed: int) -> Labels:
    """Labels of which 5 % or 15 % were flipped at random, or 5 % to the most similar intent."""
    random = np.random.default_rng(seed)
    size = int(intents.max()) + 1
    given = intents.copy()
    wrong = random.choice(len(intents), int((0.15 if kind == "15 %" else 0.05) * len(intents)), replace=False)
    if kind == "5 % to the most similar":
        means = np.stack([vectors[intents == label].mean(axis=0) for label in range(size)])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        likeness = means @ means.T - 2 * np.eye(size)
        given[wrong] = likeness.argmax(axis=1)[intents[wrong]]
    else:
        given[wrong] = (intents[wrong] + random.integers(1, size, len(wrong))) % size
    return given


def neighbours_disagree(vectors: Floats, given: Labels, groups: Integers) -> NDArray[np.float64]:
    """The share of the ten nearest rows, near copies left out, that carry another label."""
    found = np.zeros(len(given))
    for start in range(0, len(given), 1024):
        part = slice(start, start + 1024)
        likeness = vectors[part] @ vectors.T
        likeness[groups[part][:, None] == groups[None]] = -1
        near = np.argpartition(-likeness, 10, axis=1)[:, :10]
        found[part] = (given[near] != given[part][:, None]).mean(axis=1)
    return found


def label_table(name: str, texts: Sequence[str], intents: Sequence[str], vectors: Floats) -> str:
    inside = [i for i, intent in enumerate(intents) if intent]
    names, truth = np.unique([intents[i] for i in inside], return_inverse=True)
    rows = vectors[inside]
    groups = np.array(leak_groups([Example(texts[i]) for i in inside]))
    columns = "way | listed | precision | recall | average precision | first 100 | put right"
    lines = [f"| {name} ({len(rows):,} rows), flipped | {columns} |", "|---" * 8 + "|"]
    for kind in ("5 %", "15 %", "5 % to the most similar", "none"):
        given = truth if kind == "none" else planted(truth, rows, kind, 1)
        judged = judge(features(rows, rows), names[given].tolist(), groups, 0)
        assert judged is not None
        merges = [(pair.smaller, pair.larger) for pair in confusable(judged)]
        errors = label_errors(judged)
        if kind == "none":
            lines.append(f"| none | ours | {len(errors)} | - | - | - | - | - |")
            continue
        wrong = given != truth
        right = [error.suggested == names[truth[error.row]] for error in errors if wrong[error.row]]
        for way, score in scores(judged, errors, neighbours_disagree(rows, given, groups)).items():
            put_right = f"{np.mean(right):.3f}" if "ours" in way else "-"
            lines.append(f"| {kind} ({wrong.sum():,}) | {way} | {measured(score, wrong)} | {put_right} |")
            print(lines[-1], merges, flush=True)
    return "\n".join(lines)


Score = NDArray[np.float64]


def scores(judged: Judged, errors: Sequence[LabelError], disagree: Score) -> dict[str, Score]:
    """How wrong each row looks to each way; what a way does not list at all is minus infinity."""
    places = np.arange(len(judged.given))
    own = judged.probabilities[places, judged.given].astype(np.float64)
    others = judged.probabilities.astype(np.float64)
    others[places, judged.given] = -1
    chosen = np.full(len(own), -np.inf)
    chosen[[error.row for error in errors]] = [error.weight for error in errors]
    return {
        "**confident learning and neighbours (ours)**": chosen,
        "margin": others.max(axis=1) - own,
        "lowest self-confidence": -own,
        "kNN disagreement": disagree,
    }


def measured(score: Score, wrong: NDArray[np.bool_]) -> str:
    """Precision and recall of what is listed, which is as many rows as were flipped where a way only ranks."""
    from sklearn.metrics import average_precision_score

    order = np.argsort(-score, kind="stable")
    listed = int(np.isfinite(score).sum()) if not np.isfinite(score).all() else int(wrong.sum())
    found = wrong[order[:listed]]
    finite = np.where(np.isfinite(score), score, score[np.isfinite(score)].min() - 1)
    return (
        f"{listed:,} | {found.mean():.3f} | {found.sum() / wrong.sum():.3f} | "
        f"{average_precision_score(wrong, finite):.3f} | {wrong[order[:100]].mean():.2f}"
    )


def million() -> str:
    """A million synthetic rows through the same functions: what it takes when vectors come from disk in chunks."""
    count = 1_000_000
    random = np.random.default_rng(0)
    middles = random.normal(size=(400, 384)).astype(np.float32)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    noise = (random.normal(size=(9973, 384)) * 0.03).astype(np.float32)
    numbers = random.integers(0, 400, count)

    def vectors(rows: Integers) -> Floats:
        found = middles[numbers[rows]] + noise[rows % len(noise)]
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))

    examples = [Example(f"question {n}") for n in range(count)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    found = topics.question_topics(examples, range(count), vectors, vectors, 0)
    seconds = time.perf_counter() - start
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    placed = sum(topic.conversations for topic in found)
    return (
        f"A million synthetic rows of 400 topics, vectors given in chunks: {len(found)} topics, {placed:,} rows "
        f"placed, {seconds:.0f} s without encoding, {more:,.0f} MB more than the rows themselves took."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--print", action="store_true", help="leave docs/benchmarks.md as it is")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    encoder = Encoder(weights_folder())
    last = million()
    print(last, flush=True)
    parts = []
    for name in SETS:
        texts, intents, vectors = read(name, encoder)
        parts += [*cluster_tables(name, intents, vectors), label_table(name, texts, intents, vectors)]
    parts += [answer_line(encoder), last, "One core, other processes beside it. `python -m tests.bench.discovery`."]
    text = "\n\n".join(parts)
    print(text)
    if not chosen.print:
        put("discovery", text)


if __name__ == "__main__":
    main()
