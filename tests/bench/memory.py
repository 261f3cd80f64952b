"""Measures the memory that training takes, from the file to both versions, against the number of rows in the file.

`python -m tests.bench.memory [rows ...]` writes files of so many rows (BANKING77 and CLINC150, each message with a
number of its own), trains on each in a process of its own, a few steps only, and prints peak memory and seconds: all
that grows with rows is there, and the steps do not. 10,000, 100,000 and 1,000,000 rows take half an hour of one core.
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

from tests.bench.understanding import weights
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
    fit_versions(drawn.examples, Encoder(weights()), config)
    print(f"{read:.0f} | {after_reading:.0f} | {len(drawn.examples):,} | {_peak_mb():.0f} | ", end="")
    print(f"{time.perf_counter() - start:.0f} |", flush=True)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--file", type=Path, help="train on this file and print what that took")
    chosen = parser.parse_args()
    if chosen.file is not None:
        train_once(chosen.file)
        return
    print("| rows in the file | seconds to read | MB after it | rows learnt from | MB at most | seconds in all |")
    print("|---" * 6 + "|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for count in chosen.rows:
            path = Path(folder) / "rows.jsonl"
            write_rows(path, count)
            print(f"| {count:,} | ", end="", flush=True)
            subprocess.run([sys.executable, "-m", "tests.bench.memory", "--file", path], check=True)


if __name__ == "__main__":
    main()
