"""Hits are ranked by meaning, words and subject together, and say why."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retriever.answer_score import AnswerScore
from retriever.exact_index import ExactIndex
from retriever.keyword_index import KeywordIndex, terms, weighty
from retriever.passages import Document, Hit, Line, Query, Section
from retriever.search import ARTICLES, LEARNT, SHARPNESS, Indexes, search
from retriever.split import embedded_text, split
from tests.retriever.hashing import HashingEncoder

ENCODER = HashingEncoder()


def document(source: str, text: str, **facts: str) -> Document:
    return Document(source, facts.pop("title", source), text, (Section((), 0, len(text)),), **facts)


def indexes(folder: Path, documents: list[Document]) -> Indexes:
    passages = tuple(passage for d in documents for passage in split(d))
    texts = [embedded_text(passage) for passage in passages]
    keywords = KeywordIndex.build(folder / "keywords", texts)
    return Indexes.of(passages, ExactIndex(ENCODER.encode(texts)), keywords)


def ask(built: Indexes, text: str, *before: str, k: int = 5) -> list[Hit]:
    query = Query(text, tuple(Line("customer" if i % 2 == 0 else "bot", line) for i, line in enumerate(before)))
    return search(query, ENCODER.encode_queries([query]), built, k)


@pytest.fixture
def hotels(tmp_path: Path) -> Indexes:
    rows = []
    for name in ("ALLENBELL", "ACORN LODGE", "BRIDGE HOUSE", "CITYROOMZ"):
        for number, (question, answer) in enumerate(
            [("Is there parking?", "Parking costs extra."), ("Are pets allowed?", "No pets are allowed.")]
        ):
            rows.append(document(f"{name}/{number}", answer, question=question, entity=name, domain="hotel"))
    rows.append(document("train/0", "Bikes are allowed.", question="Can I take my bike on board?", domain="train"))
    return indexes(tmp_path, rows)


def test_the_subject_comes_from_the_conversation_and_the_question_from_the_last_message(hotels: Indexes) -> None:
    for name in ("ALLENBELL", "BRIDGE HOUSE"):
        hit = ask(hotels, "Are pets allowed there?", f"I booked the {name.lower()}", "Done!")[0]
        assert hit.passage.source == f"{name}/1"
        assert hit.why.subject > 0.5
    assert ask(hotels, "can I take my bike on board", "I booked the allenbell", "ok")[0].passage.source == "train/0"


def test_every_hit_says_why_and_scores_fall(hotels: Indexes) -> None:
    hits = ask(hotels, "is there parking", k=9)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    for hit in hits:
        assert -1.01 <= hit.why.meaning <= 1.01
        assert 0 <= hit.why.words <= 1.0001
        assert 0 <= hit.why.subject <= 1.0001
        assert 0 < hit.answers < 1
    assert hits[0].why.words == pytest.approx(1)
    truth = ENCODER.encode_queries([Query("is there parking")])[0][0]
    for hit in hits:
        assert hit.why.meaning == pytest.approx(
            float(truth @ ENCODER.encode([embedded_text(hit.passage)])[0]), abs=1e-5
        )


def by_hand(built: Indexes, query: Query, hit: Hit, third: np.ndarray | None = None) -> dict[str, float]:
    """What each signal adds to the score, worked out from texts and names alone; what adds nothing is left out."""
    text, terms_of = embedded_text(hit.passage), [terms(embedded_text(p)) for p in built.passages]
    last, window = (v[0] for v in ENCODER.encode_queries([query]))
    vector, held = ENCODER.encode([text])[0], set(terms(text))
    n, mean = len(terms_of), np.mean([len(t) for t in terms_of])

    def idf(term: str) -> float:
        df = sum(term in t for t in terms_of)
        return math.log(1 + (n - df + 0.5) / (df + 0.5))

    def share(wanted: list[str]) -> float:
        return sum(idf(t) for t in set(wanted) if t in held) / (sum(idf(t) for t in set(wanted)) or 1)

    def bm25(wanted: set[str]) -> float:
        count = Counter(terms(text))
        long = 1.2 * (0.25 + 0.75 * sum(count.values()) / mean)
        return sum(idf(t) * 2.2 * count[t] / (count[t] + long) for t in wanted) / (2.2 * sum(map(idf, wanted)))

    asked = weighty(terms(query.text))
    before = set(weighty(terms(" ".join(line.text for line in query.history))))
    weights = LEARNT if third is not None else ARTICLES
    points = {
        "meaning": weights.last * float(last @ vector),
        "window": weights.window * float(window @ vector),
        "words": weights.words * share(asked),
        "codes": weights.codes * share([t for t in asked if any(map(str.isdigit, t)) and any(map(str.isalpha, t))]),
        "earlier": weights.context * bm25(before),
        "precedent": weights.precedent * float(third[0] @ vector) if third is not None else 0.0,
        # Only titles are named here, one at a time: the rest neither helps nor hurts.
        "subject": 0.5 * weights.entity + 0.5 * weights.domain + weights.title * float("Ember" in hit.passage.title),
    }
    return {name: value for name, value in points.items() if value}


@pytest.mark.parametrize("expected", [None, "A canister lasts an hour."])
def test_why_adds_up_to_the_score_as_worked_out_by_hand(tmp_path: Path, expected: str | None) -> None:
    codes = document("codes", "Valve VX-21 fits the Ember Duo, a canister does not.", title="Parts")
    built = indexes(tmp_path, [*STOVES, codes])
    query = Query("how long does it burn with VX-21?", (Line("customer", "a canister for the Ember Duo"),))
    vectors, third = ENCODER.encode_queries([query]), np.float32(0.5) * ENCODER.encode([expected or ""])
    hits = search(query, (*vectors, third) if expected else vectors, built, 9)
    assert len(hits) == len(built.passages)
    for hit in hits:
        points = by_hand(built, query, hit, third if expected else None)
        assert dict(hit.why.points) == pytest.approx(points, abs=1e-5)
        assert hit.score == pytest.approx(sum(points.values()), abs=1e-5)
        assert [gained for _, gained in hit.why.points] == sorted(dict(hit.why.points).values(), reverse=True)
        assert hit.why.window == pytest.approx(float(vectors[1][0] @ ENCODER.encode([embedded_text(hit.passage)])[0]))
        assert hit.why.codes == (("21", "vx21") if hit.passage.source == "codes" else ())
        assert hit.why.moved == 0
    assert {name for hit in hits for name, _ in hit.why.points} == {
        *("meaning", "window", "words", "codes", "subject"), "precedent" if expected else "earlier",
    }  # fmt: skip


def test_what_did_not_count_is_not_among_the_points(tmp_path: Path) -> None:
    told = {"refunds": "PayPal 退款需要三到七个工作日到账。", "hours": "门店周一到周五营业。"}
    built = indexes(tmp_path, [document(source, text) for source, text in told.items()])
    best = ask(built, "我的 PayPal 退款多久到账？")[0]
    assert best.why.meaning != 0, "it is told, and what the built-in weights judge"
    assert {name for name, _ in best.why.points} == {"words", "subject"}
    assert best.score == pytest.approx(sum(gained for _, gained in best.why.points))


STOVES = [
    document("duo", "Ember Duo: two burners. A canister lasts an hour.", title="Ember Duo stove"),
    document("basin", "Basin: room for four. It weighs eight kilograms.", title="Basin 4 tent"),
    document("refunds", "Refunds take three days. Money goes back to the card.", title="Refund times"),
    document("returns", "Parcels are free within thirty days.", title="Return policy"),
]


def test_among_articles_what_was_said_before_says_which_is_meant(tmp_path: Path) -> None:
    built = indexes(tmp_path, STOVES)
    before = ("my money has not come back to the card, the refund takes days", "Refunds take three days.")
    assert ask(built, "and if it is not there within that?", *before)[0].passage.source == "refunds"
    assert ask(built, "and if it is not there within that?")[0].passage.source != "refunds", "the control: alone"


def test_a_product_named_anew_ends_what_was_said_of_another(tmp_path: Path) -> None:
    built = indexes(tmp_path, STOVES)
    before = ("how long does a canister last on the Ember Duo, the stove with two burners", "A canister lasts an hour.")
    assert ask(built, "what about the basin?", *before)[0].passage.source == "basin"
    assert ask(built, "what about the other burner?", *before)[0].passage.source == "duo"


def test_in_a_catalogue_only_the_entity_is_taken_from_what_was_said_before(tmp_path: Path) -> None:
    rows = [
        document(f"{name}/{topic}", f"{topic} costs extra", question=f"Is there {topic}?", entity=name)
        for name in ("ALLENBELL", "CITYROOMZ")
        for topic in ("parking", "breakfast")
    ]
    built = indexes(tmp_path, rows)
    before = ("Is there breakfast at the allenbell, what breakfast, breakfast breakfast?", "Breakfast costs extra.")
    lead = {}
    for catalogue in (True, False):
        hits = ask(replace(built, catalogue=catalogue), "and parking?", *before)
        score = {hit.passage.source: hit.score for hit in hits}
        lead[catalogue] = score["ALLENBELL/parking"] - score["ALLENBELL/breakfast"]
    assert lead[True] > max(lead[False], 0), "the words of the question before do not count"


def test_a_chinese_question_is_found_by_its_words(tmp_path: Path) -> None:
    built = indexes(
        tmp_path,
        [
            document("refunds", "信用卡退款需要三到七个工作日到账。", title="退款时间"),
            document("hours", "门店周一到周五营业。", title="营业时间"),
            document("english", "Refunds take three days.", title="Refunds"),
        ],
    )
    hits = ask(built, "退款多久到账？")
    assert hits[0].passage.source == "refunds"
    assert hits[0].why.words > 0.4 > hits[1].why.words
    assert ask(built, "那信用卡呢？", "退款多久到账？", "您好")[0].passage.source == "refunds"


def test_a_product_code_decides_between_alike_passages(tmp_path: Path) -> None:
    built = indexes(tmp_path, [document(f"p{n}", f"Spare part SR-{n:02} costs ${n}.") for n in range(30)])
    assert ask(built, "how much is SR-17?")[0].passage.source == "p17"
    assert ask(built, "price of sr17 please")[0].passage.source == "p17"


def test_without_vectors_words_still_find(hotels: Indexes) -> None:
    hits = search(Query("are pets allowed"), None, hotels, 3)
    assert hits[0].passage.question == "Are pets allowed?"
    assert hits[0].why.meaning == 0


def test_the_margin_is_against_another_source(tmp_path: Path) -> None:
    long = "tent pole broken repair. " * 60
    built = indexes(tmp_path, [document("repairs", long), document("other", "opening hours of the store")])
    assert len(built.passages) > 2
    hits = ask(built, "tent pole broken", k=10)
    best, other = hits[0], next(hit for hit in hits if hit.passage.source == "other")
    assert best.passage.source == "repairs"
    assert best.why.margin == pytest.approx(best.score - other.score)
    assert hits[1].why.margin > 0, "a second passage of the same article is no rival"
    assert other.why.margin == pytest.approx(other.score - best.score)
    assert ask(built, "tent pole broken", k=1)[0].why.margin == best.why.margin


def learnt(built: Indexes, text: str, expected: str, length: float, k: int = 9) -> list[Hit]:
    """As `ask` with a reader that expects the passage `expected` as surely as `length` says."""
    query = Query(text)
    third = np.float32(length) * ENCODER.encode([expected])
    return search(query, (*ENCODER.encode_queries([query]), third), built, k)


def test_what_resolved_like_questions_is_found_by_it(hotels: Indexes) -> None:
    expected = embedded_text(hotels.passages[0])
    best = learnt(hotels, "where do I leave it for the night", expected, 0.9)[0]
    assert best.passage.question == "Is there parking?"
    truth = 0.9 * float(ENCODER.encode([expected])[0] @ ENCODER.encode([embedded_text(best.passage)])[0])
    assert best.why.precedent == pytest.approx(truth, abs=1e-5)


def test_a_reader_that_expects_nothing_changes_nothing(hotels: Indexes) -> None:
    assert learnt(hotels, "is there parking", "anything", 0.0) == ask(hotels, "is there parking", k=9)


def test_with_a_trained_reader_the_chances_of_all_documents_are_shares_of_one(hotels: Indexes) -> None:
    hits = learnt(hotels, "is there parking", "Parking costs extra.", 0.8, k=50)
    best = {hit.passage.source: hit.answers for hit in reversed(hits)}
    assert len(best) == len(hotels.passages) and sum(best.values()) == pytest.approx(1)
    assert [hit.answers for hit in hits] == sorted((hit.answers for hit in hits), reverse=True)
    first, second = hits[0], next(h for h in hits if h.score < hits[0].score)
    ratio = np.exp((second.score - first.score) / SHARPNESS)
    assert second.answers / first.answers == pytest.approx(ratio)


def test_nothing_indexed_or_nothing_wanted_finds_nothing(tmp_path: Path, hotels: Indexes) -> None:
    assert ask(hotels, "parking", k=0) == []
    assert ask(hotels, "?!", k=3) != [], "a question without words is still ranked by meaning"
    assert len(ask(hotels, "parking", k=1000)) == 9


def test_the_same_question_gives_the_same_hits(hotels: Indexes) -> None:
    assert ask(hotels, "pets parking", "hello", "hi") == ask(hotels, "pets parking", "hello", "hi")


SURE = AnswerScore((1.0, 2.0, 3.0, 4.0, 5.0, -1.0), -2.0)


def test_a_fitted_score_says_whether_anything_answers_and_its_share_what(hotels: Indexes) -> None:
    query = Query("is there parking")
    vectors, third = ENCODER.encode_queries([query]), np.float32(0.8) * ENCODER.encode(["Parking costs extra."])
    chances = {}
    for known in (0.9, 0.2, None):
        hits = search(query, (*vectors, third), hotels, 50, score=SURE, known=known)
        best = {hit.passage.source: hit.answers for hit in reversed(hits)}
        chances[known] = sum(best.values())
        if known is not None:
            words = max(hit.why.words for hit in hits[:3])
            z = math.log(known / (1 - known)) + 2 * hits[0].why.window + 3 * words - 2
            assert chances[known] == pytest.approx(1 / (1 + math.exp(-z)), abs=1e-6)
        assert [hit.why.anything for hit in hits] == [pytest.approx(chances[known])] * len(hits)
    assert chances[0.9] > chances[0.2] and chances[None] == pytest.approx(1), "without a reader's word it is not asked"
    one, several = (search(query, (*vectors, third), hotels, k, score=SURE, known=0.9)[0] for k in (1, 9))
    assert one.answers == pytest.approx(several.answers)


def test_without_vectors_a_fitted_score_is_not_asked(hotels: Indexes) -> None:
    query = Query("are pets allowed")
    assert search(query, None, hotels, 3, score=SURE, known=0.9) == search(query, None, hotels, 3)
