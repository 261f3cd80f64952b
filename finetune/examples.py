"""Training rows: read, checked, de-duplicated and split without leaks.

Owns `Example` and the rules every data set must pass. Knows nothing about models, files of a company's home or the
bot's database: rows come in as arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OUT_OF_SCOPE = ""
"""The intent of a row that the company says is nobody's business here; None means the row carries no intent label."""


class FinetuneError(Exception):
    """What a person can act on: names the file, line or value and the cure. Anything else that escapes is a bug."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled or paired customer message.

    `history` holds `(speaker, text)` oldest first, without `text`. `intent` is a name, `OUT_OF_SCOPE`, or None when
    the row only pairs a question with `answer` (the text of the passage or approved answer that resolved it).
    `group` keeps rows of one conversation (or one near-duplicate cluster) on the same side of every split.
    """

    text: str
    intent: str | None = None
    history: tuple[tuple[str, str], ...] = ()
    answer: str = ""
    group: str = ""
    origin: Literal["import", "playbook", "review", "staff", "slack"] = "import"
    consent: bool = True
    reviewer: str = ""
