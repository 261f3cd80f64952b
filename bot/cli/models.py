"""Commands on trained versions: what there is, how good each is, what changed, what is live, and back.

Owns how a report and a comparison look on a terminal. Measures nothing: numbers come from the reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli import assembly
from bot.cli.output import ConfigOption, JsonFlag, emit
from bot.settings import load_settings
from finetune.examples import FinetuneError, approvable

if TYPE_CHECKING:
    from pathlib import Path

    from finetune.compare import Comparison, Paired
    from finetune.registry import Event, Manifest, Registry
    from finetune.report import VersionReport

models = typer.Typer(help="Trained versions: what there is, what is live, and back.", no_args_is_help=True)

SHOWN = 10
"""Rows of a table on the terminal; `--json` gives all."""
OWN = (
    ("accuracy", "accuracy"),
    ("macro F1", "macro_f1"),
    ("calibration error", "calibration_error"),
    ("answered at 1% error", "coverage_at_1"),
    ("answered at 5% error", "coverage_at_5"),
    ("out of scope, AUROC", "auroc"),
)
"""Scores of `Scores` that a comparison shows of each version by itself."""


def register(commands: typer.Typer) -> None:
    models.command(name="list")(list_models)
    models.command()(show)
    models.command()(compare)
    models.command()(promote)
    models.command()(rollback)
    commands.add_typer(models, name="models")


def _registry(config: str | None) -> Registry:
    from finetune.registry import Registry

    return Registry(load_settings(config).home_folder.models)


def list_models(json: JsonFlag = False, config: ConfigOption = None) -> None:
    """Every trained version, the live one marked. Example: frontdesk models list"""
    registry = _registry(config)
    live, found = registry.current(), registry.list()
    lines = [
        f"{'*' if m.version == live else ' '} {m.version}  {m.kind:8}  accuracy {m.metrics.get('accuracy') or 0:.4f}, "
        f"{m.rows} rows, {sum(map(approvable, m.labels))} intents"
        for m in found
    ]
    emit(json, {"live": live, "versions": found}, lines or ["none yet; run `frontdesk train`"])


# ---------------------------------------------------------------------------------------------------------- one version


def show(
    version: Annotated[str | None, typer.Argument(help="Its id; default: the live one.")] = None,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """What a version is and how good it was on rows held out from it. Example: frontdesk models show"""
    from finetune.report import read_report

    registry = _registry(config)
    live = registry.current()
    version = version or live
    if version is None:
        raise FinetuneError("no model yet; run `frontdesk train`")
    manifest = registry.show(version)
    report = read_report(registry, version)
    events = [event for event in registry.history() if event.version == version]
    lines = _heading(manifest, version == live)
    if report is None:
        lines += ["", "no report: it was made before there were reports; `frontdesk train` makes a version with one"]
        lines += [f"  {name:20} {value}" for name, value in manifest.metrics.items()]
    else:
        lines += _report(report, registry.folder(version), manifest)
    lines += _history(manifest, events)
    emit(json, {"manifest": manifest, "history": events, "report": report}, lines)


def _heading(manifest: Manifest, live: bool) -> list[str]:
    kind = {"lora": "LoRA", "baseline": "baseline"}[manifest.kind]
    return [
        f"{manifest.version}  {kind}{', live' if live else ''}",
        f"  made {manifest.created[:16].replace('T', ' ')} UTC on {manifest.rows:,} rows (data "
        f"{manifest.data_fingerprint[:12]}), {sum(map(approvable, manifest.labels))} intents, seed "
        f"{manifest.config.get('seed')}, parent {manifest.parent or 'none'}",
    ]


def _report(report: VersionReport, folder: Path, manifest: Manifest) -> list[str]:
    scores = report.scores
    lines = [
        f"  trained in {report.seconds:.0f} s; reads a message in {report.latency_ms:.1f} ms on one core "
        f"({report.serving}); {report.bytes / 1e6:.2f} MB",
        *(f"  picture: {folder / name}" for name in sorted(manifest.files) if name.endswith(".png")),
        "",
        f"summary, on {scores.rows:,} held-out rows, {scores.intent_rows:,} of them with an intent",
        f"  accuracy          {_with_interval(scores.accuracy, scores.intent_rows)}",
        f"  right among 3     {scores.top_3:.4f}",
        f"  macro F1          {scores.macro_f1:.4f}",
        f"  calibration, ECE  {scores.calibration_error:.4f}",
        f"  AURC              {scores.aurc:.4f}",
    ]
    if scores.auroc is not None and scores.oos_recall_at_5 is not None:
        lines += [
            f"  out of scope      AUROC {scores.auroc:.4f}; {scores.oos_recall_at_5:.1%} turned away at "
            f"{scores.false_rejection:.1%} false rejection"
        ]
    inside = sum(b.rows for b in report.reliability)
    lines += ["", f"coverage at error rates, of {inside:,} rows in scope{_otherwise(inside - scores.intent_rows)}"]
    lines += ["  wrong at most   answered   when at least so sure"]
    for answering in report.answering:
        sure = "-" if answering.point.confidence is None else f"{answering.point.confidence:.3f}"
        lines.append(f"  {answering.rate:13.0%}{answering.point.coverage:11.1%}   {sure:>21}")
    lines += [*_weakest(report), *_confused(report), "", "calibration", "      rows   sure   right"]
    lines += [f"  {b.rows:8,}{b.confidence:7.1%}{b.accuracy:8.1%}" for b in report.reliability]
    return lines


def _otherwise(rows: int) -> str:
    return f" ({rows:,} are answered otherwise: an intent said of them is wrong)" if rows else ""


def _with_interval(share: float, rows: int) -> str:
    from finetune.metrics import wilson

    low, high = wilson(round(share * rows), rows)
    return f"{share:.4f} (95 %: {low:.3f} to {high:.3f})"


def _weakest(report: VersionReport) -> list[str]:
    """Intents that are weak for sure first: by the upper end of the interval that holds their recall."""
    from finetune.metrics import wilson

    measured = [(i, wilson(round((i.recall or 0.0) * i.rows), i.rows)) for i in report.intents if i.rows]
    measured.sort(key=lambda pair: (pair[1][1], -pair[0].rows, pair[0].intent))
    lines = [
        "",
        f"weakest intents of {len(measured)} with held-out rows",
        "  recall  95 %          precision     F1  rows",
    ]
    for intent, (low, high) in measured[:SHOWN]:
        precision = "-" if intent.precision is None else f"{intent.precision:.3f}"
        lines.append(
            f"  {intent.recall:6.3f}  {low:.2f} to {high:.2f}  {precision:>9}  {intent.f1:5.3f}{intent.rows:6}  "
            f"{intent.intent}"
        )
    return lines


def _confused(report: VersionReport) -> list[str]:
    if not report.confusions:
        return ["", "most confused: nothing, every row with an intent was read right"]
    lines = ["", "most confused", "  rows  intent -> taken for"]
    return [*lines, *(f"  {pair.rows:4}  {pair.right} -> {pair.said}" for pair in report.confusions[:SHOWN])]


def _history(manifest: Manifest, events: Sequence[Event]) -> list[str]:
    thresholds = ", ".join(f"{name} {value:.3f}" for name, value in sorted(manifest.thresholds.items()))
    recipe = ", ".join(f"{name} {value}" for name, value in manifest.config.items())
    return [
        "",
        *wrap(f"thresholds: {thresholds}", 118, subsequent_indent="  "),
        *wrap(f"recipe: {recipe}", 118, subsequent_indent="  "),
        "",
        "history",
        *(line for event in events for line in _event(event)),
    ]


def _event(event: Event) -> list[str]:
    text = f"  {event.at[:16].replace('T', ' ')}  {event.action}: {event.reason}"
    return wrap(text, 118, subsequent_indent=" " * 20)


# --------------------------------------------------------------------------------------------------------- two versions


def compare(
    before: Annotated[str, typer.Argument(help="The id of one version, as `models list` shows it.")],
    after: Annotated[str, typer.Argument(help="The id of the other.")],
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """What changed, on the rows held out from both. Example: frontdesk models compare VERSION VERSION"""
    from finetune.compare import compare as compared
    from finetune.report import read_report

    registry = _registry(config)
    reports = []
    for version in (before, after):
        report = read_report(registry, version)
        if report is None:
            raise FinetuneError(
                f"{version} has no report: it was made before there were reports; `frontdesk train` makes a version "
                "with one"
            )
        reports.append(report)
    found = compared(*reports)
    value = {
        "before": {"version": before, "scores": reports[0].scores},
        "after": {"version": after, "scores": reports[1].scores},
        "verdict": found.verdict,
        "comparison": found,
    }
    emit(json, value, [f"{before} -> {after}", found.verdict, *_changes(found, *reports)])


def _changes(found: Comparison, before: VersionReport, after: VersionReport) -> list[str]:
    lines = [""]
    if found.accuracy is not None:
        lines += [f"on {found.accuracy.rows:,} rows with an intent that were held out from both"]
        lines += [_change("accuracy", found.accuracy.before, found.accuracy.after)]
    if found.before is not None and found.after is not None:
        lines += [_change("calibration error", found.before.calibration_error, found.after.calibration_error)]
        for answering, old, new in zip(after.answering, found.before.coverage, found.after.coverage, strict=True):
            lines += [_change(f"answered at {answering.rate:.0%} error", old, new)]
    if found.out_of_scope is not None:
        name = f"turned away of {found.out_of_scope.rows} out of scope"
        lines += [f"{_change(name, found.out_of_scope.before, found.out_of_scope.after)}  {_odds(found.out_of_scope)}"]
    lines += ["each on held-out rows of its own"]
    for name, field in OWN:
        old, new = getattr(before.scores, field), getattr(after.scores, field)
        if old is not None and new is not None:
            lines += [_change(name, old, new)]
    lines += [_change("milliseconds a message", before.latency_ms, after.latency_ms, 1)]
    lines += [
        *_by_intent(found),
        "",
        "made differently" if found.made_differently else "made alike: kind, data, recipe",
    ]
    return [*lines, *(f"  {difference}" for difference in found.made_differently)]


def _change(name: str, old: float, new: float, digits: int = 4) -> str:
    return f"  {name:32}{old:9.{digits}f} -> {new:.{digits}f}   {new - old:+.{digits}f}"


def _odds(paired: Paired) -> str:
    return f"({paired.won} won, {paired.lost} lost, p {paired.p:.2g})"


def _by_intent(found: Comparison) -> list[str]:
    """The intents on which the two differ, the greatest loss first; half of the table for either end."""
    moved = [change for change in found.intents if change.paired.won or change.paired.lost]
    if not found.intents:
        return []
    lines = ["", f"recall by intent, {len(moved)} of {len(found.intents)} changed"]
    worst, best = moved[:SHOWN], moved[max(SHOWN, len(moved) - SHOWN) :]
    for change in worst:
        lines.append(_intent_line(change.intent, change.paired))
    if len(moved) > len(worst) + len(best):
        lines.append(f"  ... {len(moved) - len(worst) - len(best)} more, --json gives all")
    return [*lines, *(_intent_line(change.intent, change.paired) for change in best)]


def _intent_line(intent: str, paired: Paired) -> str:
    return (
        f"  {paired.change:+.3f}  {paired.before:.3f} -> {paired.after:.3f}  {paired.rows:4} rows, {paired.won:3} won, "
        f"{paired.lost:3} lost  {intent}"
    )


# ----------------------------------------------------------------------------------------------------- which one serves


def promote(
    version: Annotated[str, typer.Argument(help="Its id, as `models list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the audit log.")] = "by hand",
    force: Annotated[bool, typer.Option("--force", help="Although it was refused; kept in the audit log.")] = False,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Make a version live after checking it. Example: frontdesk models promote VERSION --reason "better on refunds" """
    from finetune.encoder import base_fingerprint
    from finetune.registry import Registry

    settings = load_settings(config)
    base_model = base_fingerprint(assembly.base_folder(settings))
    Registry(settings.home_folder.models).promote(version, reason, base_model, force)
    emit(json, {"live": version}, [f"live: {version}; a running service takes it up by itself"])


def rollback(json: JsonFlag = False, config: ConfigOption = None) -> None:
    """Make live again what was live before. Example: frontdesk models rollback"""
    from finetune.encoder import base_fingerprint
    from finetune.registry import Registry

    settings = load_settings(config)
    registry = Registry(settings.home_folder.models)
    version = registry.rollback("by hand", base_fingerprint(assembly.base_folder(settings)))
    emit(json, {"live": version}, [f"live: {version}; a running service takes it up by itself"])
