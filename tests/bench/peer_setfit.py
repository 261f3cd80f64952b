"""Measures SetFit on few examples an intent, in an environment of its own: its pins are not ours.

`python -m tests.bench.peer_setfit [--shots 5 10] [--minutes 60] [--seeds 0]` makes `.venv-setfit`, hands it the rows
that `understanding` draws for the same seed, and puts accuracy on test into docs/benchmarks.md. Training stops at the
cap, which is told.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
import venv
from pathlib import Path

HOME = Path(__file__).parents[2] / ".venv-setfit"
PINS = ("torch==2.13.0", "setfit==1.2.0", "transformers==4.57.6")


def environment() -> Path:
    """The Python of SetFit's environment, made when it is not there."""
    python = HOME / "bin" / "python"
    if not (HOME / ".installed").exists():
        venv.create(HOME, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS], check=True)
        (HOME / ".installed").touch()
    return python


def train_inside(folder: Path, base: str, minutes: float) -> None:
    """Runs in SetFit's environment: its defaults on the rows of `folder`, stopped after so many minutes."""
    from datasets import Dataset  # type: ignore[import-not-found]
    from setfit import SetFitModel, Trainer, TrainingArguments  # type: ignore[import-not-found]
    from transformers import TrainerCallback

    rows = {part: [json.loads(line) for line in (folder / f"{part}.jsonl").open()] for part in ("train", "test")}
    start = time.perf_counter()

    class Cap(TrainerCallback):  # type: ignore[misc]
        steps = 0

        def on_step_end(self, args, state, control, **_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN202
            Cap.steps = state.global_step
            if time.perf_counter() - start > 60 * minutes:
                control.should_training_stop = True

    model = SetFitModel.from_pretrained(base)
    data = Dataset.from_dict({key: [row[key] for row in rows["train"]] for key in ("text", "label")})
    told = TrainingArguments(batch_size=16, num_epochs=1, report_to="none", save_strategy="no", output_dir=str(folder))
    Trainer(model=model, args=told, train_dataset=data, callbacks=[Cap()]).train()
    seconds = time.perf_counter() - start
    said = model.predict([row["text"] for row in rows["test"]], as_numpy=True)
    right = sum(str(a) == row["label"] for a, row in zip(said, rows["test"], strict=True))
    print(json.dumps({"accuracy": right / len(said), "seconds": round(seconds), "steps": Cap.steps, "cap": minutes}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shots", type=int, nargs="*", default=[5, 10])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--inside", nargs=2, metavar=("FOLDER", "BASE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        train_inside(Path(chosen.inside[0]), chosen.inside[1], chosen.minutes)
        return
    from retriever.encoders import weights_folder
    from tests.bench.page import machine, put
    from tests.bench.understanding import rows_of

    python = environment()
    lines = ["| SetFit, BANKING77 | seed | accuracy | steps | seconds | cap, minutes |", "|---|---|---|---|---|---|"]
    for shots in chosen.shots:
        for seed in chosen.seeds:
            with tempfile.TemporaryDirectory() as folder:
                for part, rows in zip(("train", "test"), rows_of(f"banking77-{shots}", seed), strict=True):
                    written = "\n".join(json.dumps({"text": e.text, "label": e.intent}) for e in rows)
                    (Path(folder) / f"{part}.jsonl").write_text(written, "utf-8")
                where = ["--inside", folder, str(weights_folder())]
                command = [python, __file__, *where, "--minutes", str(chosen.minutes)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            cells = (
                f"{shots} an intent",
                seed,
                f"{found['accuracy']:.4f}",
                *(found[k] for k in ("steps", "seconds", "cap")),
            )
            lines.append(f"| {' | '.join(map(str, cells))} |")
            print(lines[-1], flush=True)
    put("setfit", "\n".join([*lines, "", f"{machine()}."]))


if __name__ == "__main__":
    main()
