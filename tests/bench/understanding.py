"""Measures understanding on the public sets: LoRA beside its baseline, over seeds, and the cost of one reading.

`python -m tests.bench.understanding` measures all sets (some hours on two cores) and puts the tables into
docs/benchmarks.md between the marks of this suite; with names of sets it measures those and only prints. Test rows
are read once per reported run and choose nothing. Beside the whole sets there are, by their suffix: few examples an
intent (`-5`, `-10`), training without any out-of-scope row (`-blind`), and open sets (`-open25`: a quarter of the
intents is known, all others are out of scope; drawn by the seed), and a skewed draw (`-skew`: 4 to 110 rows an intent).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from finetune.baseline import fit_baseline
from finetune.encoder import Encoder
from finetune.evaluate import IntentsReport, evaluate_intents
from finetune.examples import OUT_OF_SCOPE, Example, Question, prepare, read_examples
from finetune.leaks import split
from finetune.model import QuestionModel
from finetune.recipe import TrainConfig
from finetune.train import Progress
from finetune.transcripts import import_transcripts, read_imported
from retriever.encoders import weights_folder
from tests.bench.page import put
from tests.conftest import SHARED

SEEDS = {
    **{"banking77": 3, "banking77-5": 3, "banking77-10": 3, "banking77-skew": 3, "clinc150": 3, "clinc150-blind": 3},
    **{"banking77-open25": 10, "banking77-open50": 10, "banking77-open75": 10, "star": 3},
}
COLUMNS = (
    *("accuracy", "macro_f1", "top_3", "auroc", "oos_recall_at_5", "false_rejection", "open_accuracy"),
    *("calibration_error", "coverage_at_1", "coverage_at_5"),
)


def rows_of(name: str, seed: int) -> tuple[Sequence[Example], Sequence[Example]]:
    """Training and test rows; STAR has no test set of its own, so a tenth of its dialogues is held out."""
    name, _, suffix = name.partition("-")
    if name == "star":
        with tempfile.TemporaryDirectory() as folder:
            import_transcripts(SHARED / "star" / "transcripts.jsonl", "jsonl", Path(folder))
            parts = split(prepare(tuple(read_imported(Path(folder)))).examples, 0.1, seed=2026)
        return parts.train, [e for e in parts.held_out if e.intent is not None]
    folder_of_set = SHARED / name
    train, test = (read_examples(folder_of_set / f"{part}.jsonl").examples for part in ("train", "test"))
    random = Random(seed)
    if suffix.isdigit():
        by_intent: dict[str | None, list[Example]] = {}
        for row in train:
            by_intent.setdefault(row.intent, []).append(row)
        train = tuple(row for _, rows in sorted(by_intent.items()) for row in random.sample(rows, int(suffix)))
    elif suffix == "skew":
        parts = [[row for row in train if row.intent == name] for name in sorted({row.intent or "" for row in train})]
        random.shuffle(parts)
        sizes = [int(110 / (1 + place) ** 0.75) for place in range(len(parts))]
        train = tuple(r for rows, n in zip(parts, sizes, strict=True) for r in random.sample(rows, min(n, len(rows))))
    elif suffix == "blind":
        train = tuple(row for row in train if row.intent)
    elif suffix.startswith("open"):
        intents = sorted({row.intent for row in train if row.intent})
        known = set(random.sample(intents, round(len(intents) * int(suffix.removeprefix("open")) / 100)))
        train = tuple(row for row in train if row.intent in known)
        test = tuple(row if row.intent in known else replace(row, intent=OUT_OF_SCOPE) for row in test)
    return train, test


def milliseconds_per_reading(base: Path, threads: int) -> dict[str, float]:
    """Median time of `QuestionModel.read` for one short message, alone and with history, on a baseline version."""
    import torch

    torch.set_num_threads(threads)
    encoder = Encoder(base)
    rows = [(f"where is my order number {n}", ()) for n in range(20)]
    head = fit_baseline(*_features(encoder, rows), seed=0)
    model = QuestionModel(encoder, head.labels, {"head.safetensors": head.to_bytes()}, "adapted")
    history = (("customer", "I ordered a lamp last week"), ("bot", "Thanks! What would you like to know?"))
    result = {}
    for name, question in {"alone": ("where is my order?", ()), "with history": ("where is it?", history)}.items():
        times = []
        for _ in range(60):
            start = time.perf_counter()
            model.read([question])
            times.append(1000 * (time.perf_counter() - start))
        result[name] = round(statistics.median(times[10:]), 2)
    return result


def _features(encoder: Encoder, rows: Sequence[Question]):  # type: ignore[no-untyped-def]  # noqa: ANN202
    from finetune.model import features

    return features(*encoder.encode(encoder.frozen, rows)), ["ab"[n % 2] for n in range(len(rows))]


def table(name: str, reports: Sequence[IntentsReport]) -> str:
    lines = [f"| {name}, {len(reports)} seeds | " + " | ".join((*COLUMNS, "seconds", "bytes")) + " |"]
    lines.append("|---" * (len(COLUMNS) + 3) + "|")
    for system in ("baseline", "lora"):
        cells = []
        for column in COLUMNS:
            values = [getattr(getattr(r, system), column) for r in reports]
            cells.append("-" if values[0] is None else f"{statistics.mean(values):.4f}")
        seconds = statistics.median(getattr(r, system).seconds for r in reports)
        size = max(getattr(r, system).adapter_bytes for r in reports)
        lines.append(f"| {system} | " + " | ".join([*cells, f"{seconds:.0f}", f"{size:,}"]) + " |")
    return "\n".join(lines)


def tell(progress: Progress) -> None:
    if progress.step % 50 == 0 or progress.step == progress.steps:
        print(progress, file=sys.stderr, flush=True)


def measured(name: str, seeds: Sequence[int], threads: int, log: Path | None) -> str:
    """The table of one set; each run is also a line of `log`, so that a run cut short has not measured for nothing."""
    reports = []
    for seed in seeds:
        train, test = rows_of(name, seed)
        config = TrainConfig(seed=seed, threads=threads)
        reports.append(evaluate_intents(train, test, weights_folder(), config, tell))
        row = json.dumps({"set": name, "seed": seed, **reports[-1].to_json()})
        print(row, flush=True)
        if log is not None:
            with log.open("a") as file:
                file.write(row + "\n")
    return table(name, reports)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", help=f"some of {', '.join(SEEDS)}; all when none is named")
    parser.add_argument("--seeds", type=int, nargs="*", help="instead of three, or ten for open sets")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also append each run here")
    chosen = parser.parse_args()
    names = chosen.sets or list(SEEDS)
    tables = [measured(n, chosen.seeds or range(SEEDS[n]), chosen.threads, chosen.json) for n in names]
    reading = [f"- {t} thread{'s'[: t - 1]}: {milliseconds_per_reading(weights_folder(), t)}" for t in (1, 2)]
    text = "\n\n".join([*tables, "One reading, milliseconds (median):\n" + "\n".join(reading)])
    print(text)
    if not chosen.sets:
        put("understanding", text)


if __name__ == "__main__":
    main()
