"""Commands on knowledge: ingest, search, versions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from difflib import unified_diff
from typing import TYPE_CHECKING, Annotated

import typer

from bot import FrontdeskError
from bot.cli import assembly
from bot.cli.output import ConfigOption, JsonFlag, Progress, Steps, emit, note, why_found
from bot.settings import Settings, load_settings
from retriever.passages import RetrieverError

if TYPE_CHECKING:
    from retriever.knowledge_base import Difference, IngestReport
    from retriever.passages import Passage
    from retriever.readers import Site

versions_of_knowledge = typer.Typer(help="Articles and versions of the knowledge base.", no_args_is_help=True)


def register(commands: typer.Typer) -> None:
    commands.command()(ingest)
    commands.command()(search)
    versions_of_knowledge.command(name="list")(list_sources)
    versions_of_knowledge.command()(remove)
    versions_of_knowledge.command()(versions)
    versions_of_knowledge.command()(diff)
    versions_of_knowledge.command()(check)
    versions_of_knowledge.command()(rollback)
    commands.add_typer(versions_of_knowledge, name="knowledge")


def ingest(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Folders, files or URLs; default: `knowledge` and `sites` of settings.")
    ] = None,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Read articles; only what changed is read and embedded again. Example: frontdesk ingest data/knowledge"""
    report = ingested(load_settings(config), paths)
    emit(json, report, [told(report)])


def ingested(settings: Settings, paths: list[str] | None = None) -> IngestReport:
    """The knowledge base brought up to date with `paths`, or with what the settings name."""
    given = paths or [*map(str, settings.knowledge), *settings.sites]
    assembly.require_settings_file(given, "knowledge")
    base = assembly.open_knowledge_base(settings)
    sites, down = [], []
    for name in filter(_is_url, given):
        try:
            sites.append(_crawled(name, settings))
        except RetrieverError as error:
            if paths:  # asked for by name
                raise
            # A site that is down keeps what was read of it, and nobody else waits for it.
            down.append((name, str(error).removeprefix(f"{name}: ")))
    report = base.ingest([name for name in given if not _is_url(name)], Steps(), sites)
    report = replace(report, skipped=(*report.skipped, *down))
    for source, reason in report.skipped:
        note(f"skipped {source}: {reason}")
    return report


def told(report: IngestReport) -> str:
    return (
        f"version {report.version}: {report.added} added, {report.changed} changed, {report.removed} removed, "
        f"{report.unchanged} unchanged, {len(report.skipped)} skipped"
    )


def _is_url(name: str) -> bool:
    return name.lower().startswith(("http://", "https://"))


def _crawled(start: str, settings: Settings) -> Site:
    """The site at `start` as it is now."""
    from retriever.crawler import Limits, crawl, folder_of
    from retriever.fetch import Fetcher
    from retriever.readers import Site

    rules = settings.crawl
    limits = Limits(rules.pages, bytes=1_000_000 * rules.megabytes, seconds=60 * rules.minutes, delay=rules.delay)
    folder = folder_of(start, settings.home_folder.crawl)
    found = crawl(start, folder, Fetcher(rules.private).get, limits, Progress("reading pages"))
    for url, reason in found.skipped:
        note(f"skipped {url}: {reason}")
    note(f"{found.start}: {found.fetched} pages read, {found.kept} as before, {found.gone} gone")
    return Site(found.start, found.pages)


def search(
    text: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many passages.")] = 5,
    audience: Annotated[list[str] | None, typer.Option(help="Who asks, beside the public; may be repeated.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="Only passages in this language; may be repeated.")] = None,
    entity: Annotated[list[str] | None, typer.Option(help="Only this product or branch; may be repeated.")] = None,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """The best passages and why they were found. Example: frontdesk search "tent too big for shipping" -k 3"""
    from retriever.passages import Filter, Query

    only = Filter(
        frozenset({"public", *(audience or ())}),
        frozenset(language) if language else None,
        frozenset(entity) if entity else None,
    )
    hits = assembly.open_knowledge_base(load_settings(config)).load().search(Query(text), None, k, only=only)
    lines = []
    for number, hit in enumerate(hits, 1):
        passage = hit.passage
        lines += [
            f"{number}. {passage.source}  {' > '.join(passage.heading) or passage.title}",
            f"   {why_found(hit)}",
            f"   {' '.join(passage.text.split())[:160]}",
        ]
    emit(json, {"query": text, "hits": hits}, lines or ["nothing found"])


def remove(
    site: Annotated[str, typer.Argument(help="The page or site map that the reading of the site began at.")],
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Take out all that was read of a site. Example: frontdesk knowledge remove https://help.example.com/"""
    from retriever.links import normal
    from retriever.readers import Site

    settings = load_settings(config)
    base, start = assembly.open_knowledge_base(settings), normal(site)
    if start in map(normal, settings.sites):
        raise FrontdeskError(f"{site}: `sites` of the settings names it, so it would come back; remove it there")
    if start not in (known := base.sites()):
        raise FrontdeskError(
            f"{site}: nothing was read from it; sites: {', '.join(known) or 'none'}. What is gone from a folder goes "
            "with the next `frontdesk ingest FOLDER`"
        )
    report = base.ingest([], Steps(), [Site(start, ())])
    emit(json, report, [told(report)])


def list_sources(json: JsonFlag = False, config: ConfigOption = None) -> None:
    """Every article of the live version. Example: frontdesk knowledge list"""
    knowledge = assembly.open_knowledge_base(load_settings(config)).load()
    counts: dict[str, int] = {}
    for passage in knowledge.passages:
        counts[passage.source] = counts.get(passage.source, 0) + 1
    rows = [{"source": source, "passages": count} for source, count in sorted(counts.items())]
    emit(json, {"version": knowledge.version, "sources": rows}, [f"{r['passages']:4}  {r['source']}" for r in rows])


def versions(json: JsonFlag = False, config: ConfigOption = None) -> None:
    """Versions on disk, the live one marked. Example: frontdesk knowledge versions"""
    found = assembly.open_knowledge_base(load_settings(config)).versions()
    lines = [f"{'*' if v.current else ' '} {v.version}  {v.created}  {v.passages} passages" for v in found]
    emit(json, {"versions": found}, lines or ["none yet; run `frontdesk ingest FOLDER`"])


def diff(
    old: Annotated[str | None, typer.Argument(help="A version; default: the one before the live one.")] = None,
    new: Annotated[str | None, typer.Argument(help="Another; default: the live one.")] = None,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """What changed from one version to another, line by line. Example: frontdesk knowledge diff"""
    base = assembly.open_knowledge_base(load_settings(config))
    versions = base.versions()
    names = [version.version for version in versions]
    live = next((version.version for version in versions if version.current), None)
    new = new or live
    old = old or next((name for name in names if live is not None and name < live), None)
    if old is None or new is None:
        raise FrontdeskError("there is only one version yet; ingest again after a change, then compare")
    for name in (old, new):
        if name not in names:
            raise FrontdeskError(f"{name}: no such version; `frontdesk knowledge versions` lists them")
    found = base.differences(old, new)
    lines = [f"{old} -> {new}: {len(found)} differing"]
    for one in found:
        lines += [f"{one.kind}: {one.source}", *(_changed_lines(one) if one.kind == "changed" else ())]
    sources = [{"source": one.source, "kind": one.kind} for one in found]
    emit(json, {"old": old, "new": new, "differences": sources}, lines)


def _changed_lines(one: Difference) -> Iterator[str]:
    """The lines that differ, each cut to what fits a screen; the text may be the same where a title changed."""
    for line in unified_diff(one.before.splitlines(), one.after.splitlines(), n=0, lineterm=""):
        if line[:3] not in ("---", "+++") and not line.startswith("@@"):
            yield f"  {line[:1]} {line[1:161]}"


def check(json: JsonFlag = False, config: ConfigOption = None) -> None:
    """Articles that contradict or repeat each other, in the live version. Example: frontdesk knowledge check"""
    from retriever import consistency

    knowledge = assembly.open_knowledge_base(load_settings(config)).load()
    found = consistency.check(tuple(knowledge.passages), knowledge.vectors, Steps())
    lines = [f"{knowledge.version}: {len(found.contradictions)} contradictions, {len(found.duplicates)} duplicates"]
    for one in found.contradictions:
        lines += [
            f"contradiction: {one.what[0]} / {one.what[1]}",
            f"  {_place(one.first)}: {one.sentence_first}",
            f"  {_place(one.second)}: {one.sentence_second}",
        ]
    for pair in found.duplicates:
        lines += [
            f"duplicate ({pair.likeness:.0%} the same): {' '.join(pair.first.text.split())[:160]}",
            f"  {_place(pair.first)}",
            f"  {_place(pair.second)}",
        ]
    what = {"duplicates": found.duplicates, "contradictions": found.contradictions}
    emit(json, {"version": knowledge.version, **what}, lines)


def _place(passage: Passage) -> str:
    return f"{passage.source}  {' > '.join(passage.heading) or passage.title}"


def rollback(
    version: Annotated[
        str | None, typer.Argument(help="Its name as `versions` shows it; default: the previous.")
    ] = None,
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Make an earlier version live again. Example: frontdesk knowledge rollback"""
    live = assembly.open_knowledge_base(load_settings(config)).rollback(version)
    emit(json, {"version": live}, [f"live: {live}; a running service takes it up by itself"])
