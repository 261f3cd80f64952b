"""The reader of conversations: it reads as torch does, learns what order tells, and is safe to load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from finetune.calibrate import FLOOR, Floats
from finetune.encoder import Encoder
from finetune.evaluate import measure
from finetune.examples import Example, FinetuneError, Question
from finetune.flow import FILE, LEAST_ROWS, LINES, SPREAD, Flow, Talks, _shapes, fit_flow, talks
from finetune.model import Head, QuestionModel
from finetune.precedents import Precedents
from finetune.train import TrainConfig, fit_versions

DIMENSION = 12
WORDS = np.random.default_rng(5).normal(size=(40, DIMENSION)).astype(np.float32)
WORDS /= np.linalg.norm(WORDS, axis=1, keepdims=True)
QUICK = TrainConfig(least_steps=2, epochs=1, threads=1, few=0, slips=0.0)


def vectors(lines: Sequence[str]) -> Floats:
    """A line is a number, and its vector that row of WORDS."""
    return np.stack([WORDS[int(line)] for line in lines])


def of(*questions: Question) -> Talks:
    return talks(questions, vectors([text for text, _ in questions]), vectors)


def random_flow(labels: int, dimension: int = DIMENSION) -> Flow:
    random = np.random.default_rng(1)
    drawn = {name: random.normal(size=shape) / 8 for name, shape in _shapes(labels, dimension).items()}
    return Flow({name: tensor.astype(np.float16).astype(np.float32) for name, tensor in drawn.items()})


def conversation(lines: int, message: int = 0) -> Question:
    """So many lines before the message, ours and the customer's in turn."""
    return str(message), tuple(("customer" if n % 2 else "agent", str(n % 40)) for n in range(lines))


def test_it_reads_as_torch_does() -> None:
    """An independent reader: torch's own layers over the lines of one conversation after the other."""
    import torch

    flow = random_flow(3)
    tensors = {name: torch.from_numpy(tensor) for name, tensor in flow.tensors.items()}
    network = torch.nn.GRU(256, 256, batch_first=True)
    network.load_state_dict({n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")})
    asked = [conversation(lines, lines) for lines in (0, 1, 5, LINES, LINES + 6)]
    for row, (text, history) in enumerate(asked):
        lines = [(speaker, WORDS[int(line)]) for speaker, line in (*history, ("customer", text))][-LINES - 1 :]
        inside = [tensors["speaker.weight"][0]] * (LINES + 1 - len(lines))
        for speaker, vector in lines:
            said = tensors["line.weight"] @ torch.from_numpy(SPREAD * vector) + tensors["line.bias"]
            inside.append(said + tensors["speaker.weight"][1 if speaker == "customer" else 2])
        state = network(torch.relu(torch.stack(inside))[None])[1][0, 0]
        message = tensors["message.weight"] @ torch.from_numpy(SPREAD * lines[-1][1]) + tensors["message.bias"]
        expected = torch.log_softmax(tensors["state.weight"] @ state + message, dim=0).clamp_min(FLOOR)
        assert flow.chances(of(*asked))[row] == pytest.approx(expected.detach().numpy(), abs=1e-4)


def test_it_reads_no_line_before_the_last_ones() -> None:
    text, history = conversation(LINES + 4)
    flow = random_flow(3)
    said = flow.chances(of((text, history), (text, history[-LINES:]), (text, history[1 - LINES :])))
    assert np.array_equal(said[0], said[1]) and not np.allclose(said[0], said[2], atol=1e-3)


@pytest.mark.slow
def test_it_learns_what_the_order_of_lines_tells() -> None:
    """The same two lines in every conversation, and which came first is the label: no bag of lines could know."""
    random = np.random.default_rng(2)

    def drawn(count: int) -> tuple[list[Question], list[str]]:
        questions, labels = [], []
        for _ in range(count):
            first, text = random.permutation([1, 2]).tolist(), str(random.integers(3, 40))
            before = random.integers(3, 40, 2).tolist()
            lines = tuple(("agent", str(n)) for n in (*before, first[0], int(random.integers(3, 40)), first[1]))
            questions.append((text, lines))
            labels.append("ab"[first[0] == 1])
        return questions, labels

    (asked, labels), (others, truth) = drawn(1_500), drawn(300)
    told: list[tuple[int, int]] = []
    flow = fit_flow(of(*asked), labels, seed=0, progress=lambda step, steps: told.append((step, steps)))
    said = flow.chances(of(*others))
    assert (np.array(["a", "b"])[said.argmax(axis=1)] == truth).mean() > 0.95
    assert told[0] == (1, 500) and told[-1] == (500, 500)
    assert np.array_equal(Flow.from_bytes(flow.to_bytes(), 2, DIMENSION).chances(of(*others)), said)
    assert fit_flow(of(*asked), labels, seed=0).to_bytes() == flow.to_bytes()


def test_foreign_bytes_are_refused_by_name() -> None:
    content = random_flow(3).to_bytes()
    tensors = load(content)
    narrow = {**tensors, "state.weight": tensors["state.weight"][:, :8]}
    fewer = {name: tensor for name, tensor in tensors.items() if name != "line.bias"}
    for bad in (b"", b"not tensors", content[:-9], save(narrow), save(fewer)):
        with pytest.raises(FinetuneError, match=r"flow\.safetensors: .*train again"):
            Flow.from_bytes(bad, 3, DIMENSION)
    for labels, dimension in ((4, DIMENSION), (3, DIMENSION + 1)):
        with pytest.raises(FinetuneError, match="shaped"):
            Flow.from_bytes(content, labels, dimension)


# ------------------------------------------------------------------------------------------------------ in a version


class Counting(Encoder):
    """Counts the lines that it reads the beginnings of."""

    def __init__(self, like: Encoder) -> None:
        super().__init__(like.folder)
        self.read = 0

    def starts(self, module, lines):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        self.read += len(lines)
        return super().starts(module, lines)


def reading(trained: QuestionModel, encoder: Encoder, **files: bytes) -> QuestionModel:
    """The version with a reader of conversations beside its other two."""
    stored = {f"{name}.safetensors": content for name, content in files.items()}
    flow = random_flow(len(trained.head.labels), encoder.dimension).to_bytes()
    model = QuestionModel(encoder, trained.head.labels, {**trained.files, FILE: flow, **stored}, trained.search_vectors)
    model.head = replace(model.head, shares=(*trained.head.shares, 2.0))
    return model


HISTORY = (("customer", "my card is lost"), ("agent", "which card"), ("customer", "the late one"))


def test_a_version_adds_what_its_reader_of_conversations_says(tiny: Encoder, trained: QuestionModel) -> None:
    model, asked = reading(trained, tiny), [("where is my refund", HISTORY), ("cancel", ())]
    last, _ = tiny.encode(model.adapted, asked)
    assert model.flow is not None
    said = model.flow.chances(talks(asked, last, lambda lines: tiny.starts(model.adapted, lines)))
    added = 2.0 * said[:, [model.head.labels.index(label) for label in model.head.inside]] / model.head.temperature
    gained = np.log(model.read(asked).probabilities) - np.log(trained.read(asked).probabilities)
    assert np.ptp(added, axis=1).min() > 0.1
    assert np.ptp(gained - added, axis=1) == pytest.approx(0, abs=1e-2), "up to what makes chances add up to one"


def test_lines_said_before_are_read_once(tiny: Encoder, trained: QuestionModel) -> None:
    encoder = Counting(tiny)
    model = reading(trained, encoder)
    first = model.read([("where is my refund", HISTORY)])
    assert encoder.read == 3
    again = model.read([("where is my refund", HISTORY), ("yes", (*HISTORY, ("agent", "refund or card")))])
    assert encoder.read == 4, "only our new line"
    assert again.probabilities[0] == pytest.approx(first.probabilities[0], abs=1e-5)


def test_a_message_that_stands_alone_is_not_read_in_its_conversation(tiny: Encoder, trained: QuestionModel) -> None:
    _, window = tiny.encode(trained.adapted, [("where is my refund", ())])
    model = reading(trained, tiny, precedents=Precedents(window, window).to_bytes())
    with_history, alone = model.read([("where is my refund", HISTORY)]), model.read([("where is my refund", ())])
    assert with_history.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def chats(count: int) -> list[Example]:
    """What is next hangs on which of two lines of ours came first; message and window say nothing."""
    random, words = np.random.default_rng(0), ("yes", "no", "please", "thanks", "hello", "today", "late", "it")
    rows = []
    for _ in range(count):
        lines = ["lost card", "late parcel"]
        random.shuffle(lines)
        filler = [" ".join(random.choice(words, 3)) for _ in range(6)]
        history = (("agent", lines[0]), ("customer", filler[0]), ("agent", lines[1]), ("customer", filler[1]))
        since = (("agent", filler[2]), ("customer", filler[3]), ("agent", filler[4]))
        rows.append(Example(filler[5], lines[0].split()[0], history + since))
    return rows


@pytest.mark.slow
def test_both_versions_of_many_chats_know_where_a_conversation_stands(tiny: Encoder) -> None:
    fitted = fit_versions(chats(LEAST_ROWS + 400), tiny, replace(QUICK, held_out=0.1))
    for trained in (fitted.baseline, fitted.lora):
        assert FILE in trained.model.files and len(trained.model.head.shares) == 2
        assert measure(trained.measured, fitted.rows.held_out).accuracy > 0.9
        alone = trained.measured
        alone.head = replace(alone.head, shares=alone.head.shares[:1])
        assert measure(alone, fitted.rows.held_out).accuracy < 0.75


@pytest.mark.slow
def test_of_few_chats_there_is_none(tiny: Encoder) -> None:
    fitted = fit_versions(chats(60), tiny, QUICK)
    assert FILE not in fitted.lora.model.files and fitted.lora.model.flow is None
    assert (
        len(Head.from_bytes(fitted.lora.model.files["head.safetensors"], ("late", "lost"), tiny.dimension).shares) == 1
    )
