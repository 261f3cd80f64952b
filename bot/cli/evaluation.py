"""Commands that measure: intents, retrieval, and the whole bot on golden questions; and the thresholds that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli import assembly
from bot.cli.output import ConfigOption, JsonFlag, emit, note, note_drawn, report_training
from bot.settings import Settings, load_settings
from finetune.examples import each_example, read_examples
from retriever.passages import RetrieverError

if TYPE_CHECKING:
    from bot.conversation.messages import Thresholds
    from bot.conversation.understanding import Reader, Reading, Searcher
    from bot.golden import GoldenRow, Outcome, Score
    from finetune.model import QuestionModel
    from finetune.outcomes import Dial
    from retriever.answer_score import AnswerScore
    from retriever.knowledge import Knowledge
    from retriever.passages import Hit, Query

evaluate = typer.Typer(help="Measure understanding, retrieval or the whole bot.", no_args_is_help=True)


def register(commands: typer.Typer) -> None:
    evaluate.command()(intents)
    evaluate.command()(retrieval)
    evaluate.command()(golden)
    commands.add_typer(evaluate, name="evaluate")


def intents(
    train: Annotated[Path, typer.Option(help='Rows {"text", "intent"}; intent null is out of scope.')],
    test: Annotated[Path, typer.Option(help="Rows of the same form; they choose nothing.")],
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """LoRA beside its baseline. Example: frontdesk evaluate intents --train train.jsonl --test test.jsonl"""
    from finetune.evaluate import evaluate_intents
    from finetune.recipe import TrainConfig
    from finetune.sampling import sample

    settings = load_settings(config)
    train_rows, test_rows = sample(each_example(train)), read_examples(test).examples
    note_drawn(train_rows)
    report = evaluate_intents(
        train_rows.examples,
        test_rows,
        assembly.base_folder(settings),
        TrainConfig(seed=settings.seed),
        report_training,
        settings.max_error_rate,
    )
    for warning in report.warnings[:20]:
        note(f"warning: {warning}")
    lines = []
    for name, system in (("LoRA", report.lora), ("baseline", report.baseline)):
        scope = "" if system.auroc is None else f", AUROC {system.auroc:.4f}, OOS recall {system.oos_recall_at_5:.3f}"
        lines.append(
            f"{name:9} accuracy {system.accuracy:.4f}, macro F1 {system.macro_f1:.4f}{scope}, ECE "
            f"{system.calibration_error:.3f}, answered at 1 % error {system.coverage_at_1:.1%}, "
            f"{system.seconds:.0f} s, {system.adapter_bytes / 1e6:.1f} MB"
        )
        lines.append(f"{'':9} {_dial(system.dial)}")
    emit(json, report.to_json(), lines)


def _dial(dial: Dial) -> str:
    if dial.threshold is None:
        return f"max_error_rate {dial.max_error_rate:g}: nothing can be promised by so few held-out rows"
    false = "" if dial.false_answers is None else f", answers {dial.false_answers:.1%} of what is out of scope"
    return f"max_error_rate {dial.max_error_rate:g}: answers {dial.coverage:.1%}, {dial.wrong:.1%} wrongly{false}"


def retrieval(
    knowledge: Annotated[Path, typer.Option(help='Rows {"id", "question"?, "answer" or "text", "domain"?}.')],
    queries: Annotated[Path, typer.Option(help='Rows {"history" or "query", "relevant"}; [] where nothing answers.')],
    model: Annotated[str, typer.Option(help="Read questions with this version; default: the frozen encoder.")] = "",
    report: Annotated[Path | None, typer.Option(help="Write a Markdown report there.", dir_okay=False)] = None,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Does the right passage come first?

    Example: frontdesk evaluate retrieval --knowledge knowledge.jsonl --queries queries.jsonl
    """
    from bot.cli.retrieval_report import lines_of, markdown_of
    from bot.readers import TrainedQuestions
    from retriever.evaluate import evaluate_retrieval

    # Said before the minutes that measuring may take.
    if report is not None and not report.absolute().parent.is_dir():
        raise RetrieverError(f"{report}: no such folder; make it or give another --report")
    settings = load_settings(config)
    frozen, reranker = assembly.open_encoder(settings), assembly.open_reranker(settings)
    if model:
        loaded, manifest = assembly.open_model(settings, model)
        trained, score = TrainedQuestions(frozen, loaded), assembly.score_of(manifest)
        measured = evaluate_retrieval(knowledge, queries, trained, known=trained.known, reranker=reranker, score=score)
    else:
        measured = evaluate_retrieval(knowledge, queries, frozen, reranker=reranker)
    for problem in measured.problems[:20]:
        note(f"skipped {problem}")
    if report is not None:
        report.write_text(markdown_of(measured, str(knowledge), str(queries)), "utf-8", "replace")
    emit(json, measured.to_json(), lines_of(measured))


def golden(
    questions: Annotated[
        Path | None, typer.Option(help="Golden questions; default: evaluation.jsonl by validation.")
    ] = None,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """The whole bot on questions with known answers.

    Example: frontdesk evaluate golden --questions data/evaluation.jsonl
    """
    from bot.golden import ask_all, read_golden, score

    settings = load_settings(config)
    if questions is None:
        assembly.require_settings_file(settings.validation, "validation")
        assert settings.validation is not None
        questions = settings.validation.with_name("evaluation.jsonl")
    rows = read_golden(questions)
    parts = assembly.open_parts(settings)
    for shortcoming in parts.shortcomings:
        note(f"degraded: {shortcoming}")
    outcomes = ask_all(assembly.assistant_of(parts), rows)
    languages = sorted({row.language for row in rows})
    scores = {name: score(o for o in outcomes if o.row.language == name) for name in languages}
    scores["all"] = score(outcomes)
    missed = [_miss(outcome) for outcome in outcomes if outcome.verdict not in ("right", "refused")]
    value = {"scores": {name: _numbers(s) for name, s in scores.items()}, "missed": missed}
    lines = [
        f"{name:4} answered right {s.right}/{s.answerable} ({s.answered_right:.1%}), wrong {s.wrong}, "
        f"abstained {s.abstained}; unanswerable answered {s.leaked}/{s.unanswerable} ({s.leak_rate:.1%})"
        for name, s in scores.items()
    ]
    lines += [f"  {miss['verdict']:9} {miss['id']:8} {miss['said']:32} {miss['text']}" for miss in missed]
    emit(json, value, lines)


def _numbers(counts: Score) -> dict[str, float]:
    return {
        "answerable": counts.answerable,
        "right": counts.right,
        "wrong": counts.wrong,
        "abstained": counts.abstained,
        "unanswerable": counts.unanswerable,
        "leaked": counts.leaked,
        "answered_right": counts.answered_right,
        "leak_rate": counts.leak_rate,
    }


def _miss(outcome: Outcome) -> dict[str, str]:
    part = outcome.turn.parts[0]
    return {
        "verdict": outcome.verdict,
        "id": outcome.row.id,
        "text": outcome.row.text,
        "said": f"{outcome.turn.reply.status}:{part.understanding.intent or ''}",
    }


class _Remembering:
    """Answers a repeated question from memory, so that thresholds can be searched without encoding again."""

    def __init__(self, reader: Reader, searcher: Searcher) -> None:
        self._reader = reader
        self._searcher = searcher
        self._readings: dict[Query, Reading] = {}
        self._hits: dict[tuple[Query, int], tuple[Hit, ...]] = {}
        self.version = reader.version

    def read(self, questions: Sequence[Query]) -> list[Reading]:
        new = [question for question in dict.fromkeys(questions) if question not in self._readings]
        if new:
            self._readings.update(zip(new, self._reader.read(new), strict=True))
        return [self._readings[question] for question in questions]

    def mended(self, text: str) -> str:
        return self._searcher.mended(text)

    def search(self, query: Query, reading: Reading | None, k: int) -> tuple[Hit, ...]:
        if (query, k) not in self._hits:
            self._hits[query, k] = self._searcher.search(query, reading, k)
        return self._hits[query, k]


def validated_thresholds(settings: Settings, model: QuestionModel, knowledge: Knowledge) -> Mapping[str, float]:
    """Thresholds for a version that is not saved yet, chosen on the company's validation questions; and the score of
    its hits that is fitted on the same, unless the bot answers more without it."""
    from bot.conversation.assistant import Assistant
    from bot.golden import as_good, choose_thresholds, read_golden
    from bot.readers import KnowledgeSearcher, ModelReader

    assert settings.validation is not None
    rows = read_golden(settings.validation)
    playbook = assembly.open_playbook(settings)
    phrases = assembly.open_phrases(settings, playbook)
    reader = ModelReader(model, "candidate")

    def choose(score: AnswerScore | None) -> tuple[Thresholds, Score]:
        remembering = _Remembering(reader, KnowledgeSearcher(knowledge.calibrated(score)))
        return choose_thresholds(
            lambda thresholds: Assistant(remembering, remembering, playbook, phrases, thresholds),
            rows,
            settings.max_error_rate,
        )

    chosen, counts = choose(None)
    score = fitted_score(reader, knowledge, rows)
    if score is not None:
        others, fitted = choose(score)
        if as_good(fitted, counts, settings.max_error_rate):
            chosen, counts = others, fitted
        else:
            note("the built-in score of hits stays: the bot answers more by it than by the one fitted here")
            score = None
    note(
        f"thresholds on {len(rows)} validation questions: answered right {counts.right}/{counts.answerable}, wrong "
        f"{counts.wrong}, unanswerable answered {counts.leaked}/{counts.unanswerable}"
    )
    fit = {} if score is None else score.to_numbers()
    return {name: getattr(chosen, name) for name in type(chosen).__dataclass_fields__} | fit


def fitted_score(reader: Reader, knowledge: Knowledge, rows: Sequence[GoldenRow]) -> AnswerScore | None:
    """The chance that anything found answers, fitted on questions that an article answers and on those that nothing
    does; None unless there are both. What only the playbook answers says nothing about articles."""
    import numpy as np

    from retriever.answer_score import FIRST, AnswerScore, signals
    from retriever.passages import Line, Query

    table, answered = [], []
    for row in rows:
        if row.answerable and not row.articles:
            continue
        lines = (Line("customer" if speaker == "customer" else "bot", text) for speaker, text in row.history)
        query = Query(knowledge.mended(row.text), tuple(lines))
        (reading,) = reader.read([query])
        assert isinstance(reading.vectors, tuple)
        hits = knowledge.search(query, reading.vectors, FIRST)
        if hits:
            table.append(signals(query, hits, 1 - reading.out_of_scope))
            answered.append(row.answerable)
    return AnswerScore.fit(np.array(table), answered) if len(set(answered)) == 2 else None
