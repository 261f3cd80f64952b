"""Blocks of visible text under headings, laid out as one document text with exact sections.

Owns what counts as visible and how a text is put together from its blocks. Every format goes through here. Knows
nothing about files or markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from retriever.passages import Section

# Characters nobody sees but a model or a search would read: zero-width, direction marks, soft hyphen, tag characters,
# variation selectors, controls. Joiners stay between letters of scripts that need them (Persian, Indic, emoji).
_INVISIBLE = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U000e0000-\U000e0fff\U000f0000-\U0010ffff"
    "\ud800-\udfff]|(?<![^\x00-\x7f])[\u200c\u200d]+|(?<![\u200c\u200d])[\u200c\u200d]++(?![^\x00-\x7f])"
)
_LINE_BREAK = re.compile("\r\n?|[\u2028\u2029\u0085\u000b\u000c]")
_SPACES = re.compile(r"[^\S\n]+")
LONGEST_TITLE: Final = 200


@dataclass(frozen=True, slots=True)
class Block:
    """A heading (`level` 1 to 6) or a stretch of body (`level` 0). Neighbours of one `group` above 0, such as the items
    of a list, follow each other line by line.
    """

    text: str
    level: int = 0
    group: int = 0


@dataclass(frozen=True, slots=True)
class Outline:
    """A document before it has a name. `facts` are what its front matter says, in lower-case keys."""

    title: str
    text: str
    sections: tuple[Section, ...]
    facts: Mapping[str, str] = field(default_factory=dict)


def visible(text: str) -> str:
    """`text` without what a reader cannot see; line ends become `\\n`."""
    return _INVISIBLE.sub("", _LINE_BREAK.sub("\n", text))


def one_line(text: str) -> str:
    return " ".join(visible(text).split())


def outline(blocks: Iterable[Block], title: str = "", facts: Mapping[str, str] | None = None) -> Outline:
    """Lay `blocks` out as text. The title is what `facts` say, else the first level-1 heading, else `title`, else the
    first heading; a heading that is the title is not repeated in heading paths. Headings stand between sections; one
    without any text under it is a section itself, so that nothing visible is lost to search.
    """
    cleaned = [Block(_body(b.text) if b.level == 0 else one_line(b.text), b.level, b.group) for b in blocks]
    cleaned = [block for block in cleaned if block.text]
    headings = [block for block in cleaned if block.level]
    first = next((b for b in headings if b.level == 1), headings[0] if headings else None)
    name = first.text if first is not None and (first.level == 1 or not title) else title
    name = one_line((facts or {}).get("title", "") or name)[:LONGEST_TITLE]
    if first is not None and first.text[:LONGEST_TITLE] != name:
        first = None
    text = ""
    sections: list[Section] = []
    path: list[tuple[int, str]] = []
    start = -1
    for number, block in enumerate(cleaned):
        following = cleaned[number + 1] if number + 1 < len(cleaned) else None
        tight = block.group > 0 and number > 0 and cleaned[number - 1].group == block.group and not block.level
        text += "" if not text else "\n" if tight else "\n\n"
        if block.level:
            path = [item for item in path if item[0] < block.level]
            if block is not first:
                path.append((block.level, block.text[:LONGEST_TITLE]))
        if start < 0:
            start = len(text)
        text += block.text
        childless = following is None or 0 < following.level <= block.level
        if block.level and not (childless and block is not first):
            start = -1
        elif following is None or following.level:
            sections.append(Section(tuple(heading for _, heading in path), start, len(text)))
            start = -1
    if not sections and text:  # nothing but a title
        sections.append(Section((), 0, len(text)))
    return Outline(name, text, tuple(sections), facts or {})


def _body(text: str) -> str:
    lines = (_SPACES.sub(" ", line).rstrip() for line in visible(text).split("\n"))
    return "\n".join(lines).strip()
