"""A cross-encoder's opinion is what the model computes, it reaches the ranking, and what cannot be one is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from retriever.exact_index import ExactIndex
from retriever.keyword_index import KeywordIndex
from retriever.passages import Line, Passage, Query, RetrieverError
from retriever.rerank import CrossEncoder
from retriever.search import JUDGED, RERANKED, Indexes, search
from retriever.split import embedded_text
from tests.retriever.hashing import HashingEncoder

WORDS = ("refund", "week", "deposit", "tent", "how", "long", "does", "take", "the", "of", "is", "held", "a", "kayak")
ENCODER = HashingEncoder()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random cross-encoder in the layout of a real one."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("cross")
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*marks, *WORDS])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = BertConfig(
            vocab_size=len(marks) + len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=64, num_labels=1, initializer_range=0.7,
        )  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def passage(number: int, text: str, entity: str = "") -> Passage:
    return Passage(f"{number}", f"{number}.md", "", (), text, 0, len(text), entity=entity)


def test_the_opinion_is_that_of_the_model(folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    passages = [passage(0, "a refund is a week"), passage(1, "the deposit is held", entity="kayak")]
    query = Query("how long does the refund take", (Line("customer", "a tent"),))
    ours = CrossEncoder(folder).judge(query, passages)
    model, tokenizer = (
        BertForSequenceClassification.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    asked = "a tent\nhow long does the refund take"
    for judged, told in zip(ours, ["a refund is a week", "kayak\nthe deposit is held"], strict=True):
        with torch.no_grad():
            theirs = torch.sigmoid(model(**tokenizer(asked, told, return_tensors="pt")).logits)[0, 0]
        assert judged == pytest.approx(float(theirs), abs=1e-5)
    assert abs(ours[0] - ours[1]) > 1e-3, "the control: it tells the two apart"


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_is_none_is_refused_by_name(folder: Path, tmp_path: Path, missing: str) -> None:
    for file in folder.iterdir():
        if file.name != missing:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(RetrieverError, match=rf"no {missing}"):
        CrossEncoder(tmp_path)


def test_damaged_weights_are_a_reason(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(RetrieverError, match="cannot be loaded"):
        CrossEncoder(tmp_path).judge(Query("refund"), [passage(0, "refund")])


class Likes:
    """Has one favourite, and remembers what it was asked."""

    def __init__(self, favourite: str) -> None:
        self.favourite = favourite
        self.seen: list[int] = []

    def judge(self, query: Query, passages: Sequence[Passage]) -> np.ndarray:
        self.seen.append(len(passages))
        return np.array([1.0 if one.id == self.favourite else 0.0 for one in passages], np.float32)


def test_its_favourite_among_the_best_comes_first_and_the_hit_says_so(tmp_path: Path) -> None:
    passages = [passage(n, f"refund of the deposit number{n}") for n in range(30)]
    texts = [embedded_text(one) for one in passages]
    where = Indexes.of(tuple(passages), ExactIndex(ENCODER.encode(texts)), KeywordIndex.build(tmp_path / "k", texts))
    query = Query("refund of the deposit")
    vectors = ENCODER.encode_queries([query])
    plain = search(query, vectors, where, 30)
    likes = Likes(plain[RERANKED - 1].passage.id)
    judged = search(query, vectors, where, 30, reranker=likes)
    assert likes.seen == [RERANKED]
    assert judged[0].passage.id == likes.favourite and judged[0].why.judged == 1.0
    assert judged[0].score == pytest.approx(plain[RERANKED - 1].score + JUDGED)
    assert [hit.passage.id for hit in judged[1:]] == [h.passage.id for h in plain if h.passage.id != likes.favourite]
    assert plain[0].why.judged == 0.0
    assert dict(judged[0].why.points) == pytest.approx({**dict(plain[RERANKED - 1].why.points), "reranker": JUDGED})
    assert [hit.why.moved for hit in judged] == [RERANKED - 1, *[-1] * (RERANKED - 1), *[0] * (30 - RERANKED)]
    assert {hit.why.moved for hit in plain} == {0}
