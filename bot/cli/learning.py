"""Commands that learn: import old chats, and train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot import FrontdeskError
from bot.cli import assembly
from bot.cli.output import ConfigOption, JsonFlag, emit, note, note_drawn, plain, report_training
from bot.cli.staff_rows import keep_staff_rows
from bot.conversation.language import language_of
from bot.settings import Settings, load_settings
from finetune.examples import Example, FinetuneError, each_example
from retriever.passages import RetrieverError

if TYPE_CHECKING:
    from bot.conversation.playbook import Playbook
    from finetune.answers import Passages
    from finetune.model import QuestionModel
    from finetune.recipe import TrainConfig
    from finetune.release import Learnt
    from finetune.sampling import Sample
    from finetune.tone import ToneExample
    from finetune.train import Progress, Report
    from retriever.knowledge import Knowledge

transcripts = typer.Typer(help="Old chats as training data.", no_args_is_help=True)


def register(commands: typer.Typer) -> None:
    transcripts.command(name="import")(import_transcripts)
    commands.add_typer(transcripts, name="transcripts")
    commands.command()(train)


def import_transcripts(
    file: Annotated[Path, typer.Argument(help="The export: a file, or the folder of an unpacked Slack export.")],
    format: Annotated[str, typer.Option(help="jsonl, csv, slack, zendesk or intercom.")] = "jsonl",
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Keep old chats for training, personal data masked. Example: frontdesk transcripts import chats.jsonl"""
    from finetune.transcripts import FORMATS
    from finetune.transcripts import import_transcripts as keep

    known = next((name for name in FORMATS if name == format), None)
    if known is None:
        raise FrontdeskError(f"--format {format}: not known; use one of: {', '.join(FORMATS)}")
    settings = load_settings(config)
    imported = keep(file, known, settings.home_folder.transcripts)
    for problem in imported.problems[:20]:
        note(f"skipped {problem}")
    if len(imported.problems) > 20:
        note(f"skipped {len(imported.problems) - 20} more")
    if known == "slack" and not settings.train_on_slack:
        note(f"{imported.rows} rows from Slack are kept but not trained on; {_SLACK_CURE}")
    lines = [
        f"{imported.dialogues} conversations with {imported.turns} turns became {imported.rows} rows "
        f"({imported.labelled} labelled, {imported.paired} paired, {imported.withheld} without consent) in "
        f"{imported.file}; skipped: {len(imported.problems)}",
        f"{'masked':15}{'values':>8}{'conversations':>15}",
        *(f"{kind.kind:15}{kind.values:8}{kind.conversations:15}" for kind in imported.masked),
    ]
    emit(json, imported, lines if imported.masked else [*lines[:1], "masked: nothing"])


_SLACK_CURE = (
    "Slack's terms restrict it (https://slack.com/terms-of-service/api): set `train_on_slack = true` if you may"
)


def train(
    examples: Annotated[
        Path | None, typer.Option(help="Labelled rows to train on instead of the company's own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of versions instead of the one in home.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make LoRA live whatever the gate says; kept in the audit log.")
    ] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder to log loss and accuracy to; needs frontdesk[tensorboard].")
    ] = None,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Train LoRA and its baseline; the better one goes live, unless it loses to what is. Example: frontdesk train"""
    from finetune.gate import Limits
    from finetune.registry import Registry
    from finetune.release import train_and_register

    settings = load_settings(config)
    drawn = training_rows(settings, examples)
    knowledge = _knowledge(settings)
    note_drawn(drawn)
    if drawn.left_out:
        note(f"left out: {drawn.left_out} rows from Slack; {_SLACK_CURE}")
    learnt = train_and_register(
        drawn.examples,
        assembly.base_folder(settings),
        Registry(out or settings.home_folder.models),
        _recipe(settings),
        report_training if tensorboard is None else _and_tensorboard(tensorboard),
        _threshold_chooser(settings, knowledge),
        _passages(knowledge),
        _tones(settings),
        Limits(**settings.gate.model_dump()),
        force,
    )
    for warning in learnt.warnings[:20]:
        note(f"warning: {warning}")
    emit(json, learnt, _lines(learnt))


def _tones(settings: Settings) -> Sequence[ToneExample]:
    from finetune.tone import read_tones

    if settings.tone is None:
        return ()
    assembly.require_settings_file(settings.tone, "tone")
    return read_tones(settings.tone)


def _and_tensorboard(folder: Path) -> Report:
    """Progress to the terminal as always, and every step to a folder that TensorBoard reads."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise FrontdeskError("--tensorboard: not installed; pip install 'frontdesk[tensorboard]'") from None
    writer = SummaryWriter(str(folder))

    def report(progress: Progress) -> None:
        report_training(progress)
        if progress.stage in ("training", "refitting"):
            writer.add_scalar(f"{progress.stage}/loss", progress.loss, progress.step)
            writer.add_scalar(f"{progress.stage}/accuracy", progress.accuracy, progress.step)
            if progress.step == progress.steps:
                writer.flush()

    return report


def _lines(learnt: Learnt) -> list[str]:
    """Both versions side by side, what is live now, and all that was said against either."""
    lora, baseline = learnt.lora_scores, learnt.baseline_scores
    lines = [
        f"{'':10}{'accuracy':>10}{'top 3':>10}{'macro F1':>10}{'ECE':>8}{'at 1 %':>9}{'at 5 %':>9}{'AUROC':>8}"
        f"   held out: {lora.rows} rows",
        *(
            f"{name:10}{s.accuracy:10.4f}{s.top_3:10.4f}{s.macro_f1:10.4f}{s.calibration_error:8.3f}"
            f"{s.coverage_at_1:9.1%}{s.coverage_at_5:9.1%}" + (f"{s.auroc:8.3f}" if s.auroc is not None else "       -")
            for name, s in (("LoRA", lora), ("baseline", baseline))
        ),
    ]
    names = {learnt.lora.version: "LoRA", learnt.baseline.version: "baseline"}
    for manifest, verdict in ((learnt.lora, learnt.verdict), (learnt.baseline, learnt.baseline_verdict)):
        kind, speaks = names[manifest.version], manifest.version == learnt.live or not verdict.accepted
        lines += [f"{kind}: {'' if verdict.accepted else 'refused: '}{reason}" for reason in verdict.reasons if speaks]
    live = names.get(learnt.live, "as before: what was trained is kept, but does not serve")
    return [*lines, f"live: {learnt.live} ({live}); more: frontdesk models show {learnt.lora.version}"]


def train_unless_known(config: str) -> None:
    """Train, unless that was done on exactly these rows with this recipe: it would end the same way."""
    from finetune.registry import Registry

    settings = load_settings(config)
    registry = Registry(settings.home_folder.models)
    live = registry.current()
    if live is not None:
        wanted = (_known_fingerprint(settings), plain(_recipe(settings)))
        if any((manifest.data_fingerprint, manifest.config) == wanted for manifest in registry.list()):
            note(f"a model was trained on exactly these rows, {live} is live: nothing to do")
            return
    train(config=config)


def _known_fingerprint(settings: Settings) -> str:
    from finetune.examples import classed, fingerprint, prepare

    return fingerprint(classed(prepare(training_rows(settings, None).examples).examples))


def _recipe(settings: Settings) -> TrainConfig:
    from finetune.recipe import TrainConfig

    return TrainConfig(seed=settings.seed)


def training_rows(settings: Settings, file: Path | None) -> Sample:
    """As many rows as training can use of a named file, or of all that the company has; read one by one.

    Rows without consent are left out, and those from Slack unless the company has decided otherwise. Raises
    FinetuneError when none is left.
    """
    from bot.conversation.phrases import PhraseBook
    from finetune.sampling import sample

    # The phrase book judges what the encoder cannot read, so the encoder is not made to guess at it.
    company = (row for row in company_rows(settings) if not PhraseBook.reads(row.text))
    drawn = sample(
        each_example(file) if file is not None else company,
        allowed=lambda row: settings.train_on_slack or row.origin != "slack",
    )
    if not drawn.examples:
        reasons = [f"{drawn.withheld} rows are without consent"] if drawn.withheld else []
        if drawn.left_out:
            reasons.append(f"all {'other ' if reasons else ''}{drawn.left_out} rows are from Slack; {_SLACK_CURE}")
        raise FinetuneError(
            f"nothing to train on: {', '.join(reasons)}"
            if reasons
            else "nothing to train on; run `frontdesk transcripts import FILE`, give --examples FILE, or set "
            "`examples` in frontdesk.toml"
        )
    return drawn


def company_rows(settings: Settings) -> Iterator[Example]:
    """Labelled messages, the playbook's examples and imported chats, as people have reviewed them, one by one."""
    from finetune.transcripts import read_imported

    playbook = assembly.open_playbook(settings) if settings.playbook.exists() else None
    keep_staff_rows(settings)
    imported = read_imported(settings.home_folder.transcripts)
    rows = chain(assembly.labelled_rows(settings), _playbook_rows(playbook), imported)
    return (_resolved(row, playbook) for row in assembly.reviewed_rows(settings, rows))


def _playbook_rows(playbook: Playbook | None) -> list[Example]:
    """The playbook's own examples."""
    intents = () if playbook is None else playbook.intents
    return [Example(text, intent.name, origin="playbook") for intent in intents for _, text in intent.examples]


def _resolved(row: Example, playbook: Playbook | None) -> Example:
    """The row with the answer and the article by which the playbook resolves its intent."""
    intent = playbook.intent(row.intent) if playbook is not None and row.intent else None
    if playbook is None or intent is None or intent.kind != "answer" or row.answer:
        return row
    topics = (intent.article,) if intent.article else ()
    return replace(row, answer=intent.answer.in_language(language_of(row.text, "", playbook.languages)), topics=topics)


def _knowledge(settings: Settings) -> Knowledge | None:
    """The knowledge base, if there is one: training then learns to find its passages."""
    try:
        return assembly.open_knowledge_base(settings).load()
    except RetrieverError as error:
        note(f"training without passages: {error}")
        return None


def _passages(knowledge: Knowledge | None) -> Passages | None:
    from finetune.answers import Passages

    if knowledge is None or not knowledge.passages:
        return None
    return Passages(knowledge.vectors, tuple(passage.source for passage in knowledge.passages))


def _threshold_chooser(
    settings: Settings, knowledge: Knowledge | None
) -> Callable[[QuestionModel], Mapping[str, float]]:
    """Thresholds from the validation questions through the whole bot, when there are such questions."""
    from bot.cli.evaluation import validated_thresholds
    from bot.golden import read_golden

    if settings.validation is None or knowledge is None:
        note("default thresholds: they are chosen on `validation` questions and articles, and one of them is missing")
        return lambda _: {}
    # What cannot be read is told now, not after minutes of training.
    read_golden(settings.validation)
    assembly.open_playbook(settings)
    return lambda model: validated_thresholds(settings, model, knowledge)
