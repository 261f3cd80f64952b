"""From a document to its passages: heading-aware, sentence-aware, with exact spans and stable ids.

Owns how long a passage is and what of it is embedded. Knows nothing about files, tokenizers or indexes: lengths are
estimated, generously, from the text itself.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from retriever.passages import Document, Passage

LIMIT: Final = 180
"""Estimated word pieces of a passage's body; with its title and headings it stays under the 256 the encoder reads."""
HEADING_CHARACTERS: Final = 200

Span = tuple[int, int]

CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af\U00020000-\U0003ffff"
_UNIT = re.compile(rf"[{CJK}]|[^\W{CJK}]+|[^\w\s]|_+")
_GAP = re.compile(r"\n[^\S\n]*\n\s*")
# The look-behind keeps a run of ten thousand dots linear: only its first dot may start a match.
_SENTENCE_END = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=$|\s+[\"'“‘(\[]?[A-Z0-9])|[。！？；]++[”’」』）]*+|\n", re.MULTILINE
)
_ABBREVIATION = re.compile(
    r"\b(?:[A-Z]|e\.g|i\.e|etc|vs|approx|no|nr|mr|mrs|ms|dr|prof|st|inc|ltd|co)\.$", re.IGNORECASE
)


def split(document: Document) -> tuple[Passage, ...]:
    """The passages of `document` in reading order.

    Each passage is `document.text[start:end]`, lies in one section, and all together hold every visible character of
    every section. The id is a hash of what the passage says and where (source, headings, text), so an edit elsewhere
    in the document leaves it alone.
    """
    passages: list[Passage] = []
    seen: Counter[str] = Counter()
    for section in document.sections:
        for start, end in _pack(document.text, section.start, section.end):
            text = document.text[start:end]
            content = "\x1f".join(
                (document.source, document.title, "\x1e".join(section.heading), document.question, document.entity,
                 document.domain, text)
            )  # fmt: skip
            passages.append(
                Passage(
                    id=_digest(f"{content}\x1f{seen[content]}"),
                    source=document.source,
                    title=document.title,
                    heading=section.heading,
                    text=text,
                    start=start,
                    end=end,
                    language=document.language,
                    url=document.url,
                    question=document.question,
                    entity=document.entity,
                    domain=document.domain,
                    audience=document.audience,
                )
            )
            seen[content] += 1
    return tuple(passages)


def embedded_text(passage: Passage) -> str:
    """What the encoder reads for `passage`: a question with its answer, or title and headings over the body."""
    if passage.question:
        return f"{passage.question}\n{passage.text}"
    path = [part for i, part in enumerate((passage.title, *passage.heading)) if i == 0 or part != passage.title]
    return f"{' > '.join(path)[-HEADING_CHARACTERS:]}\n{passage.text}"


def word_pieces(text: str) -> int:
    """An estimate, on the high side for prose, of how many pieces a word-piece tokenizer makes of `text`."""
    return sum(1 + (len(unit) - 1) // 6 for unit in _UNIT.findall(text))


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[Span]:
    """Spans of the sentences (or lines) in `text[start:end]`, without the white space around them."""
    end = len(text) if end is None else end
    begin = start
    for match in _SENTENCE_END.finditer(text, start, end):
        if match.group() != "\n" and _ABBREVIATION.search(text, max(begin, match.end() - 12), match.end()):
            continue
        yield from _trimmed(text, begin, match.end())
        begin = match.end()
    yield from _trimmed(text, begin, end)


def _pack(text: str, start: int, end: int) -> Iterator[Span]:
    """Neighbouring pieces joined greedily up to `LIMIT`."""
    open_start = open_end = -1
    size = 0
    for piece_start, piece_end, pieces in _pieces(text, start, end):
        if open_start >= 0 and size + pieces > LIMIT:
            yield open_start, open_end
            open_start, size = -1, 0
        if open_start < 0:
            open_start = piece_start
        open_end = piece_end
        size += pieces
    if open_start >= 0:
        yield open_start, open_end


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Whole paragraphs where they fit, else their sentences, else stretches of words; with their estimated size."""
    for paragraph_start, paragraph_end in _paragraphs(text, start, end):
        size = word_pieces(text[paragraph_start:paragraph_end])
        if size <= LIMIT:
            yield paragraph_start, paragraph_end, size
            continue
        for sentence_start, sentence_end in sentences(text, paragraph_start, paragraph_end):
            size = word_pieces(text[sentence_start:sentence_end])
            if size <= LIMIT:
                yield sentence_start, sentence_end, size
            else:
                yield from _stretches(text, sentence_start, sentence_end)


def _paragraphs(text: str, start: int, end: int) -> Iterator[Span]:
    begin = start
    for gap in _GAP.finditer(text, start, end):
        yield from _trimmed(text, begin, gap.start())
        begin = gap.end()
    yield from _trimmed(text, begin, end)


def _stretches(text: str, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """A sentence too long for one passage, cut between words; a word too long is cut inside."""
    begin, size = start, 0
    last = start
    for unit in _UNIT.finditer(text, start, end):
        for cut in range(unit.start(), unit.end(), 6 * LIMIT):
            stop = min(cut + 6 * LIMIT, unit.end())
            pieces = 1 + (stop - cut - 1) // 6
            if size and size + pieces > LIMIT:
                yield from ((s, e, size) for s, e in _trimmed(text, begin, cut))
                begin, size = cut, 0
            size += pieces
            last = stop
    if last < end or size:
        yield from ((s, e, size) for s, e in _trimmed(text, begin, end))


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    """`start:end` without white space at its ends; nothing when nothing is left."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:20]
