"""Commands that run the bot: serve, ask, chat, demo, status and doctor."""

from __future__ import annotations

import json as jsonlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from bot import FrontdeskError
from bot.ask import ask_running_service, render
from bot.cli import assembly
from bot.cli.output import ConfigOption, JsonFlag, emit, note, recorded
from bot.home import Home, running_service
from bot.settings import Settings, load_settings

if TYPE_CHECKING:
    from bot.cli.assembly import Parts
    from bot.conversation.messages import Turn
    from bot.delivery import Deliver
    from bot.storage.database import Database
    from bot.storage.outbox import Kind


def register(commands: typer.Typer) -> None:
    commands.command()(serve)
    commands.command()(worker)
    commands.command()(ask)
    commands.command()(chat)
    commands.command()(status)
    commands.command()(doctor)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes any free one.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Serve the chat page and the API until stopped. Example: frontdesk serve --port 8080"""
    settings = load_settings(config)
    run_service(settings, host or settings.host, settings.port if port is None else port)


def run_service(settings: Settings, host: str, port: int) -> None:
    """Open the parts, answer what an earlier process still owed, and serve until a signal comes."""
    # Before NumPy and FAISS are there, which read it once: for one message a second thread gains nothing, and while the
    # two wait for each other they take twice the time of the cores (docs/decisions.md).
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from bot.channels.web.limits import Allowance
    from bot.channels.web.logbook import keep_last_words
    from bot.channels.web.origins import KnownSites
    from bot.channels.web.pages import Storefront
    from bot.cli.live import Live, followed
    from bot.meters import Meters
    from bot.server import Service as WebService
    from bot.server import create_application, inherited, listen
    from bot.serving import Desk
    from bot.storage.database import Database
    from bot.storage.files import Files
    from bot.storage.next_questions import NextQuestions
    from bot.storage.people import all_people

    home = settings.home_folder
    service = running_service(home.folder)
    if service is not None and service.pid != os.getpid():
        raise FrontdeskError(f"{home.folder}: served already at {service.url} (process {service.pid}); stop that first")
    listener = inherited() or listen(host, port)
    note("loading model and knowledge")
    meters = Meters()
    live = Live(settings, meters.batch)
    parts = live.parts
    for shortcoming in parts.shortcomings:
        note(f"degraded: {shortcoming}")
    home.folder.mkdir(parents=True, exist_ok=True)
    with Database(home.database) as database:
        address = settings.url or f"http://{host}:{listener.getsockname()[1]}"
        ways = notifications(settings, address)
        live.also_asked = NextQuestions(database)
        desk = Desk(
            database,
            live.assistant(),
            most_in_hand=settings.in_flight,
            notify=tuple(ways),
            patience=timedelta(minutes=settings.agent_minutes),
            told=meters.turn,
            site_of=KnownSites(database).find,
        )
        Files(database, home.files).sweep()
        versions = ("model", "index", "playbook")
        meters.watch("frontdesk_version_info", "The versions in service.", live.versions, versions)
        meters.watch("frontdesk_part_degraded", "1 while answers come without this part.", live.degraded, ("part",))
        keep_last_words()
        try:
            application = create_application(
                desk,
                database,
                live,
                Storefront(parts.playbook.company, assembly.starters_of(parts.playbook)),
                hosts=settings.allowed_hosts,
                shortcomings=live.shortcomings,
                address=settings.url or "",
                files=home.files,
                allowance=Allowance(**settings.limits.model_dump()),
                trusted_proxies=settings.trusted_proxies,
                meters=meters,
                metrics_token=settings.metrics_token.get_secret_value(),
            )
            web = WebService(application, listener)
            _announce(home, web.url)
            owed = desk.resume()
            if owed:
                note(f"answering {owed} messages that were accepted before the last stop")
            if not all_people(database):
                note("nobody can sign in to /console yet: frontdesk people add NAME --role lead")
            note(f"serving {parts.playbook.company} at {web.url}")
            with followed(live, desk), _delivering(database, ways):
                web.run()
        finally:
            desk.close()
            with suppress(OSError):
                home.service.unlink()


def notifications(settings: Settings, address: str) -> dict[Kind, Deliver]:
    """How the team hears that a customer waits, as far as it is set up."""
    from bot.delivery import MailServer, caller, mailer

    ways: dict[Kind, Deliver] = {}
    mail, webhook = settings.mail, settings.webhook
    if mail.host:
        password = mail.password.get_secret_value() if mail.password is not None else ""
        sender = mail.sender or mail.user or ""
        server = MailServer(mail.host, mail.port, mail.security, mail.user or "", password, sender, mail.to)
        ways["email"] = mailer(server, address)
    if webhook.url and webhook.secret is not None:
        ways["webhook"] = caller(webhook.url, webhook.secret.get_secret_value(), webhook.private)
    return ways


@contextmanager
def _delivering(database: Database, ways: Mapping[Kind, Deliver]) -> Iterator[None]:
    """While this lasts, what the outbox owes is delivered."""
    from bot.delivery import Courier

    courier = Courier(database, ways)
    thread = threading.Thread(target=courier.run, name="courier", daemon=True)
    thread.start()
    try:
        yield
    finally:
        courier.stop()
        thread.join(30)


def worker(config: ConfigOption = None) -> None:
    """Read articles and sites again when it is time, until stopped. Example: frontdesk worker"""
    from bot.cli.knowledge import ingested, told
    from bot.worker import Job, Worker

    settings = load_settings(config)
    assembly.require_settings_file([*settings.knowledge, *settings.sites], "knowledge")
    hours = settings.crawl.hours
    note(f"reading knowledge and sites now and every {hours:g} hours; a running service takes up what is new")
    Worker([Job("ingest", hours, lambda: note(told(ingested(settings))))], note).run()


def _announce(home: Home, url: str) -> None:
    """Tell `frontdesk ask` where the service is; readable by the owner alone."""
    staged = home.service.with_suffix(".partial")
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(jsonlib.dumps({"url": url, "pid": os.getpid()}))
    os.replace(staged, home.service)


def ask(
    text: Annotated[str, typer.Argument(help="The question.")],
    json: JsonFlag = False,
    config: ConfigOption = None,
) -> None:
    """Ask one question, of the running service if there is one. Example: frontdesk ask "how long do refunds take" """
    if config:
        os.environ["FRONTDESK_CONFIG"] = config
    if ask_running_service([text, "--json"] if json else [text]) is not None:
        return
    settings = load_settings(config)
    note("no service is running: loading model and knowledge for this one question")
    parts = assembly.open_parts(settings)
    turn = turn_body(_answer(parts, text))
    emit(json, turn, [render(turn)])


def _answer(parts: Parts, text: str) -> Turn:
    from bot.channels.terminal import terminal_message
    from bot.conversation.messages import Turn

    for said in assembly.assistant_of(parts).respond(terminal_message(text)):
        if isinstance(said, Turn):
            return said
    raise AssertionError("an assistant ends with its turn")


def turn_body(turn: Turn) -> dict[str, object]:
    """A turn in the shape of the HTTP contract."""
    from bot.channels.web.bodies import turn_body as body

    return dict(body(turn).model_dump())


def chat(config: ConfigOption = None) -> None:
    """Talk to the bot in the terminal; an empty line or Ctrl-D ends. Example: frontdesk chat"""
    from bot.channels.terminal import chat as talk
    from bot.serving import Desk
    from bot.storage.database import Database

    settings = load_settings(config)
    parts = assembly.open_parts(settings)
    for shortcoming in parts.shortcomings:
        note(f"degraded: {shortcoming}")
    settings.home_folder.folder.mkdir(parents=True, exist_ok=True)
    with Database(settings.home_folder.database) as database:
        desk = Desk(database, assembly.assistant_of(parts))
        try:
            talk(desk, database, input, lambda text: print(text, end="", flush=True))
        finally:
            desk.close()


def status(json: JsonFlag = False, config: ConfigOption = None) -> None:
    """What is live and what is recorded. Example: frontdesk status --json"""
    from bot.storage.conversations import count
    from bot.storage.database import Database
    from finetune.registry import Registry
    from retriever.knowledge_base import current_version

    settings = load_settings(config)
    home = settings.home_folder
    service = running_service(home.folder)
    registry = Registry(home.models)
    model = registry.current()
    manifest = registry.show(model) if model else None
    index = current_version(home.knowledge)
    counts = None
    if home.database.exists():
        with Database(home.database) as database:
            counts = count(database)
    value = {
        "home": str(home.folder),
        "service": service.url if service else None,
        "model": model,
        "model_kind": manifest.kind if manifest else None,
        "index": index,
        "counts": counts,
    }
    lines = [
        f"home      {home.folder}",
        f"service   {service.url if service else 'not running; start it with `frontdesk serve`'}",
        f"model     {f'{model} ({manifest.kind})' if manifest else 'none yet; run `frontdesk train`'}",
        f"knowledge {index or 'none yet; run `frontdesk ingest FOLDER`'}",
        f"record    {recorded(counts) if counts else 'nothing recorded yet'}",
    ]
    emit(json, value, lines)


def doctor(json: JsonFlag = False, config: ConfigOption = None) -> None:
    """What is missing, and the cure of each. Exit 1 when something is. Example: frontdesk doctor"""
    from bot.cli.checkup import examine

    findings = examine(config)
    sick = [finding for finding in findings if finding.problem]
    lines = [f"{'missing' if f.problem else 'ok     '}  {f.what}: {f.problem or f.found}" for f in findings]
    emit(json, {"ok": not sick, "findings": findings}, lines)
    if sick:
        raise typer.Exit(1)
