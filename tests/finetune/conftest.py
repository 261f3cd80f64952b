"""A tiny random encoder in the layout of a real one, so that the logic of training is tested without 22M weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from finetune.encoder import Encoder
from finetune.examples import OUT_OF_SCOPE, Example
from finetune.model import QuestionModel
from finetune.recipe import TrainConfig
from finetune.train import Fitted, fit_versions

if TYPE_CHECKING:
    import torch

VOCABULARY = """
where is my order refund card lost stolen money back when does it arrive please cancel the subscription change address
password reset login cannot help me with what a how do i hello thanks weather pizza football today yes no number late
broken parcel
"""


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("base")
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *VOCABULARY.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(str(folder / "tokenizer.json"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=128,
            initializer_range=0.2,
        )
        BertModel(config).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return folder


class Exact(Encoder):
    """Computes in float32 on every machine: where a CPU has bf16 units its vectors agree to two digits, not to five."""

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.float32


@pytest.fixture(scope="session")
def tiny(base_folder: Path) -> Encoder:
    return Exact(base_folder)


@pytest.fixture(scope="session")
def trained(tiny: Encoder) -> QuestionModel:
    """LoRA after a dozen steps on `labelled_rows`."""
    config = TrainConfig(least_steps=12, epochs=2, threads=1, batch=16, few=0)
    return fit_versions(labelled_rows(), tiny, config).lora.model


@pytest.fixture(scope="session")
def halved(tiny: Encoder) -> Fitted:
    """Both versions after a dozen steps on half of `labelled_rows`: the other half, some 25 rows an intent, is held
    out."""
    return fit_versions(
        labelled_rows(), tiny, TrainConfig(least_steps=12, epochs=2, threads=1, batch=16, held_out=0.5, few=0)
    )


@pytest.fixture
def examples() -> list[Example]:
    return labelled_rows()


def labelled_rows() -> list[Example]:
    """Three intents and out-of-scope rows, each told by one word; a third of the rows have history."""
    keywords = {"refund": "refund", "card": "lost_card", "cancel": "cancel", "pizza": OUT_OF_SCOPE}
    openings = ("hello", "please", "help me with", "how do i", "what is", "where is", "thanks", "cannot")
    closings = ("my money", "it", "the order today", "back", "late parcel", "with address")
    rows = []
    for keyword, intent in keywords.items():
        for place, opening in enumerate(openings):
            for number, closing in enumerate(closings):
                history = (("agent", f"hello {opening}"), ("customer", "thanks")) if (place + number) % 3 == 0 else ()
                rows.append(Example(f"{opening} {keyword} {closing}", intent, history))
    return rows
