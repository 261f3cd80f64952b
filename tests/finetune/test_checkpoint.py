"""A killed training goes on where it stood, to the very same weights."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from finetune.answers import targets_of
from finetune.checkpoint import Checkpoints, training_key
from finetune.encoder import Encoder
from finetune.examples import Example, FinetuneError
from finetune.registry import Registry
from finetune.train import Progress, adapt, questions
from tests.conftest import ROOT
from tests.finetune.test_train import QUICK


class Killed(Exception):
    """Stands for SIGKILL between two steps; tests/bot kills real processes."""


def train(tiny: Encoder, rows: list[Example], checkpoints: Checkpoints | None, die_at: int = 0) -> tuple[object, int]:
    frozen = tiny.encode(tiny.frozen, questions(rows))
    steps = 0

    def report(progress: Progress) -> None:
        nonlocal steps
        steps += 1
        if progress.step == die_at:
            raise Killed

    files, head, curve = adapt(rows, frozen, targets_of(rows, frozen[1], tiny, None), tiny, QUICK, report, checkpoints)
    return (files, head.to_bytes(), curve.loss.tolist()), steps


@pytest.mark.slow
def test_a_training_that_was_killed_twice_ends_like_one_that_was_not(
    tiny: Encoder, examples: list[Example], tmp_path: Path
) -> None:
    whole, steps = train(tiny, examples, None)
    for die_at in (3, steps - 2):
        with pytest.raises(Killed):
            train(tiny, examples, Checkpoints(tmp_path, every=0.0), die_at)
    again, taken = train(tiny, examples, Checkpoints(tmp_path, every=0.0))
    assert again == whole
    assert taken == 3, "what was done is not done again: the step that died was not written down, and two follow"


CHILD = """
import sys
from pathlib import Path
from finetune.registry import Registry
from finetune.release import train_and_register
from tests.finetune.conftest import labelled_rows
from tests.finetune.test_train import QUICK
import finetune.checkpoint
finetune.checkpoint.EVERY = 0.0

def report(progress):
    print(progress.stage, progress.step, flush=True)

train_and_register(labelled_rows(), Path(sys.argv[1]), Registry(Path(sys.argv[2])), QUICK, report)
"""


def child(base_folder: Path, home: Path, kill_at: str = "") -> list[str]:
    """Lines that a training process prints until its end, or until it is killed at one of them."""
    command = [sys.executable, "-c", CHILD, str(base_folder), str(home)]
    said = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.strip())
            if line.strip() == kill_at:
                process.kill()
                break
    assert process.returncode == (-9 if kill_at else 0)
    return said


@pytest.mark.slow
def test_a_process_that_was_killed_leaves_no_version_and_the_next_one_the_same_version(
    base_folder: Path, tmp_path: Path
) -> None:
    """SIGKILL in the middle of training, of learning the whole, and after it: the registry is never half written."""
    child(base_folder, tmp_path / "whole")
    killed = Registry(tmp_path / "killed")
    for place in ("training 9", "refitting 5", "exporting 0"):
        child(base_folder, tmp_path / "killed", place)
        assert killed.list() == () and killed.current() is None
        assert list((tmp_path / "killed" / "unfinished").glob("*.safetensors"))
    said = child(base_folder, tmp_path / "killed")
    assert [line for line in said if line.startswith(("training", "refitting"))] == [], "nothing is learnt twice"
    assert not list((tmp_path / "killed" / "unfinished").iterdir())
    one, other = (
        {
            m.kind: {name: stored.sha256 for name, stored in m.files.items() if name.endswith("safetensors")}
            for m in r.list()
        }
        for r in (Registry(tmp_path / "whole"), killed)
    )
    assert one == other and set(one) == {"baseline", "lora"}


def test_other_rows_another_recipe_and_another_base_begin_anew(tiny: Encoder, examples: list[Example]) -> None:
    targets = targets_of(examples, tiny.encode(tiny.frozen, questions(examples))[1], tiny, None)
    keys = {
        training_key(examples, targets, "base", QUICK),
        training_key(examples[::-1], targets, "base", QUICK),
        training_key([replace(examples[0], text="new"), *examples[1:]], targets, "base", QUICK),
        training_key(examples, targets, "base", replace(QUICK, seed=1)),
        training_key(examples, targets, "another", QUICK),
        training_key(examples, replace(targets, credit=targets.credit + 1), "base", QUICK),
    }
    assert len(keys) == 6
    assert training_key(examples, targets, "base", QUICK) in keys


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 100, b"\xff" * 9])
def test_a_damaged_state_is_no_state(tmp_path: Path, content: bytes) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("k" * 64, {"a": torch.ones(2)})
    assert torch.equal((checkpoints.load("k" * 64) or {})["a"], torch.ones(2))
    (tmp_path / f"{'k' * 32}.safetensors").write_bytes(content)
    assert not checkpoints.load("k" * 64)


def test_a_full_disk_is_named_and_the_old_state_stays(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "file")
    (tmp_path / "file").write_text("a file where the folder should be")
    with pytest.raises(FinetuneError, match="cannot be written"):
        checkpoints.save("k" * 64, {"a": torch.ones(2)})


def test_states_are_forgotten_when_a_version_is_made(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("a" * 64, {"a": torch.ones(2)})
    (tmp_path / "x.staged").write_bytes(b"torn")
    checkpoints.clear()
    assert list(tmp_path.iterdir()) == []
    assert np.isfinite(checkpoints.every)
