"""Commands that learn: import old chats, train, and the registry of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bot import FrontdeskError
from bot.cli import assembly
from bot.cli.output import ConfigOption, JsonFlag, emit, note, plain, report_training
from bot.conversation.language import language_of
from bot.settings import Settings, load_settings
from finetune.examples import Example, FinetuneError, approvable, read_examples
from retriever.passages import RetrieverError

if TYPE_CHECKING:
    from bot.conversation.playbook import Playbook
    from finetune.answers import Passages
    from finetune.model import QuestionModel
    from finetune.recipe import TrainConfig
    from retriever.knowledge_base import Knowledge

transcripts = typer.Typer(help="Old chats as training data.", no_args_is_help=True)
models = typer.Typer(help="Trained versions: what there is, what is live, and back.", no_args_is_help=True)


def register(commands: typer.Typer) -> None:
    transcripts.command(name="import")(import_transcripts)
    commands.add_typer(transcripts, name="transcripts")
    commands.command()(train)
    models.command(name="list")(list_models)
    models.command()(show)
    models.command()(promote)
    models.command()(rollback)
    commands.add_typer(models, name="models")


def import_transcripts(
    file: Annotated[Path, typer.Argument(help="The export.")],
    format: Annotated[str, typer.Option(help="jsonl or csv.")] = "jsonl",
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Keep old chats for training, personal data masked. Example: frontdesk transcripts import chats.jsonl"""
    from finetune.transcripts import import_transcripts as keep

    known: dict[str, Literal["jsonl", "csv"]] = {"jsonl": "jsonl", "csv": "csv"}
    if format not in known:
        raise FrontdeskError(f"--format {format}: not known; use one of: {', '.join(known)}")
    imported = keep(file, known[format], load_settings(config).home_folder.transcripts)
    for problem in imported.problems[:20]:
        note(f"skipped {problem}")
    if len(imported.problems) > 20:
        note(f"skipped {len(imported.problems) - 20} more")
    masked = ", ".join(f"{count} {kind}" for kind, count in imported.masked) or "nothing"
    line = (
        f"{imported.dialogues} conversations with {imported.turns} turns became {imported.labelled} labelled and "
        f"{imported.paired} paired rows in "
        f"{imported.file}; masked: {masked}; skipped: {len(imported.problems)}"
    )
    emit(json, imported, [line])


def train(
    examples: Annotated[
        Path | None, typer.Option(help="Labelled rows to train on instead of the company's own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of versions instead of the one in home.")] = None,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Train LoRA and its baseline; the better one goes live. Example: frontdesk train --json"""
    from finetune.evaluate import train_and_register
    from finetune.registry import Registry

    settings = load_settings(config)
    rows = _rows(settings, examples)
    knowledge = _knowledge(settings)
    note(f"training on {len(rows)} rows")
    learnt = train_and_register(
        rows,
        assembly.base_folder(settings),
        Registry(out or settings.home_folder.models),
        _recipe(settings),
        report_training,
        _threshold_chooser(settings, knowledge),
        _passages(knowledge),
    )
    for warning in learnt.warnings[:20]:
        note(f"warning: {warning}")
    lora, baseline = learnt.lora_scores, learnt.baseline_scores
    lines = [
        f"{'':10}{'accuracy':>10}{'top 3':>10}{'macro F1':>10}{'ECE':>8}{'AUROC':>8}   held out: {lora.rows} rows",
        *(
            f"{name:10}{s.accuracy:10.4f}{s.top_3:10.4f}{s.macro_f1:10.4f}{s.calibration_error:8.3f}"
            + (f"{s.auroc:8.3f}" if s.auroc is not None else f"{'-':>8}")
            for name, s in (("LoRA", lora), ("baseline", baseline))
        ),
        f"live: {learnt.live} ({'LoRA' if learnt.verdict.accepted else 'baseline'}): {learnt.verdict.reason}",
    ]
    emit(json, learnt, lines)


def train_unless_known(config: str) -> None:
    """Train, unless the live version was trained on exactly these rows with this recipe."""
    from finetune.registry import Registry

    settings = load_settings(config)
    registry = Registry(settings.home_folder.models)
    live = registry.current()
    if live is not None:
        manifest = registry.show(live)
        if manifest.data_fingerprint == _known_fingerprint(settings) and manifest.config == plain(_recipe(settings)):
            note(f"model {live} was trained on exactly these rows: nothing to do")
            return
    train(config=config)


def _known_fingerprint(settings: Settings) -> str:
    from finetune.examples import fingerprint, prepare

    return fingerprint(prepare(_rows(settings, None)).examples)


def _recipe(settings: Settings) -> TrainConfig:
    from finetune.recipe import TrainConfig

    return TrainConfig(seed=settings.seed)


def _rows(settings: Settings, examples: Path | None) -> list[Example]:
    """What to train on: a named file, or all that the company has: labelled messages, playbook, imported chats."""
    from bot.conversation.phrases import PhraseBook

    if examples is not None:
        return list(read_examples(examples).examples)
    # The phrase book judges what the encoder cannot read, so the encoder is not made to guess at it.
    rows = [row for row in company_rows(settings) if not PhraseBook.reads(row.text)]
    if not rows:
        raise FinetuneError(
            "nothing to train on; run `frontdesk transcripts import FILE`, give --examples FILE, or set `examples` "
            "in frontdesk.toml"
        )
    return rows


def company_rows(settings: Settings) -> list[Example]:
    """Labelled messages, the playbook's examples and imported chats, as people have reviewed them."""
    from finetune.transcripts import read_imported

    playbook = assembly.open_playbook(settings) if settings.playbook.exists() else None
    rows = [*assembly.labelled_rows(settings), *_playbook_rows(playbook)]
    rows = assembly.reviewed_rows(settings, [*rows, *read_imported(settings.home_folder.transcripts)])
    return [_resolved(row, playbook) for row in rows]


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

    if settings.validation is None or knowledge is None:
        note("default thresholds: they are chosen on `validation` questions and articles, and one of them is missing")
        return lambda _: {}
    return lambda model: validated_thresholds(settings, model, knowledge)


def list_models(json: JsonFlag = False, config: ConfigOption = None) -> None:
    """Every trained version, the live one marked. Example: frontdesk models list"""
    from finetune.registry import Registry

    registry = Registry(load_settings(config).home_folder.models)
    live, found = registry.current(), registry.list()
    lines = [
        f"{'*' if m.version == live else ' '} {m.version}  {m.kind:8}  accuracy {m.metrics.get('accuracy') or 0:.4f}, "
        f"{m.rows} rows, {sum(map(approvable, m.labels))} intents"
        for m in found
    ]
    emit(json, {"live": live, "versions": found}, lines or ["none yet; run `frontdesk train`"])


def show(
    version: Annotated[str | None, typer.Argument(help="Its id; default: the live one.")] = None,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """What a version is and how it was measured. Example: frontdesk models show"""
    from finetune.registry import Registry

    registry = Registry(load_settings(config).home_folder.models)
    version = version or registry.current()
    if version is None:
        raise FinetuneError("no model yet; run `frontdesk train`")
    manifest = registry.show(version)
    events = [event for event in registry.history() if event.version == version]
    lines = [f"{manifest.version}  {manifest.kind}, made {manifest.created}, parent {manifest.parent or 'none'}"]
    lines += [f"  {name:20} {value}" for name, value in {**manifest.metrics, **manifest.thresholds}.items()]
    lines += [f"  {event.at}  {event.action}: {event.reason}" for event in events]
    emit(json, {"manifest": manifest, "history": events}, lines)


def promote(
    version: Annotated[str, typer.Argument(help="Its id, as `models list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the audit log.")] = "by hand",
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Make a version live after checking it. Example: frontdesk models promote VERSION --reason "better on refunds" """
    from finetune.encoder import base_fingerprint
    from finetune.registry import Registry

    settings = load_settings(config)
    Registry(settings.home_folder.models).promote(version, reason, base_fingerprint(assembly.base_folder(settings)))
    emit(json, {"live": version}, [f"live: {version}; a running service takes it up when it is restarted"])


def rollback(json: JsonFlag = False, config: ConfigOption = None) -> None:
    """Make live again what was live before. Example: frontdesk models rollback"""
    from finetune.encoder import base_fingerprint
    from finetune.registry import Registry

    settings = load_settings(config)
    registry = Registry(settings.home_folder.models)
    version = registry.rollback("by hand", base_fingerprint(assembly.base_folder(settings)))
    emit(json, {"live": version}, [f"live: {version}; a running service takes it up when it is restarted"])
