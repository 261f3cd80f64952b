"""Measures the memory that training takes, from the file to both versions, against the number of rows in the file.

`python -m tests.bench.memory [rows ...]` writes files of so many rows (BANKING77 and CLINC150, each message with a
number of its own), trains on each in a process of its own, a few steps only, and puts peak memory and seconds into
docs/benchmarks.md: all that grows with rows is there, and the steps do not. 10,000, 100,000 and 1,000,000 rows take
half an hour of one core; with numbers given it only prints.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from retriever.encoders import weights_folder
from tests.bench.page import machine, put
from tests.conftest import SHARED

STEPS_OF = 20_000
"""Tokens that are trained on."""


def write_rows(path: Path, count: int) -> None:
    texts = [
        json.loads(line)
        for name in ("banking77", "clinc150")
        for line in (SHARED / name / "train.jsonl").read_text("utf-8").splitlines()
    ]
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(islice(cycle(texts), count)):
            file.write(json.dumps({"text": f"{row['text']} ({number})", "intent": row["intent"]}) + "\n")


def train_once(path: Path) -> None:
    """Prints what one training took; the process ends after it, so its peak is this training's."""
    from finetune.encoder import Encoder
    from finetune.examples import each_example
    from finetune.recipe import TrainConfig
    from finetune.sampling import sample
    from finetune.train import fit_versions

    start = time.perf_counter()
    drawn = sample(each_example(path))
    read, after_reading = time.perf_counter() - start, _peak_mb()
    config = TrainConfig(token_budget=STEPS_OF, most_tokens=STEPS_OF, threads=1)
    fit_versions(drawn.examples, Encoder(weights_folder()), config)
    cells = (f"{read:.0f}", f"{after_reading:.0f}", f"{len(drawn.examples):,}", f"{_peak_mb():.0f}")
    print(" | ".join((*cells, f"{time.perf_counter() - start:.0f}")), flush=True)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, help="instead of 10,000, 100,000 and 1,000,000")
    parser.add_argument("--file", type=Path, help="train on this file and print what that took")
    chosen = parser.parse_args()
    if chosen.file is not None:
        train_once(chosen.file)
        return
    columns = ("rows in the file", "seconds to read", "MB after it", "rows learnt from", "MB at most", "seconds in all")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    with tempfile.TemporaryDirectory() as folder:
        for count in chosen.rows or (10_000, 100_000, 1_000_000):
            path = Path(folder) / "rows.jsonl"
            write_rows(path, count)
            command = [sys.executable, "-m", "tests.bench.memory", "--file", str(path)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            lines.append(f"| {count:,} | {done.stdout.splitlines()[-1]} |")
            print(lines[-1], flush=True)
    text = "\n".join([*lines, "", f"One thread; {machine()}."])
    print(text)
    if not chosen.rows:
        put("memory", text)


if __name__ == "__main__":
    main()
