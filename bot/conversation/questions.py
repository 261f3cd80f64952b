"""One message, several questions: where a message is cut, and what belongs to which question.

Owns the rules of cutting. They are meant to be cheap and cautious: the dialogue keeps a cut only when the pieces are
answered differently. Knows nothing about intents.
"""

from __future__ import annotations

import re

from bot.conversation.messages import LONGEST_TEXT
from bot.conversation.words import CJK, Span, chinese_share, content_words, folded, sentences
from retriever.passages import Line, Query

MOST_QUESTIONS = 3
MOST_PREAMBLE = 400
"""Characters of what leads up to a question that are kept with it: more would drown the question."""

_LINES_OF_HISTORY = 12

_OPENING = (
    r"^(?:\W*(?:hi|hello|hey|ok|okay|so|and|but|also|well|please|pls|thanks|thank you|then|plus|oh|sorry|there"
    r"|guys|team|(?:one more|another) (?:thing|question)|second(?:ly)?|first(?:ly)?|by the way|btw)\b)*+\W*"
)
_ASKING_WORDS = (
    "how what when where why who which whose can could do does did is are was were am will would should may"
).replace(" ", "|")
_ORDERING_WORDS = (
    "tell me,let me know,cancel,change,update,send,show,check,track,return,refund,give,stop,remove,add,explain"
).replace(",", "|")
_ASKING = re.compile(
    # "Did not arrive" and "have not had it" tell, although they begin as questions do.
    rf"{_OPENING}(?:(?:{_ASKING_WORDS})(?:'s)?\b(?!\s+not\b|')|ha(?:s|ve)\s+(?:you|i|we|they|it|my|the|any)\b)",
    re.IGNORECASE,
)
_REQUESTING = re.compile(
    rf"{_OPENING}(?:i (?:also )?(?:want|need|would like|wanna|wish)|i'?d (?:also )?like|i'?m (?:asking|wondering)"
    rf"|{_ORDERING_WORDS})\b",
    re.IGNORECASE,
)
_CHINESE_ASKING = re.compile(
    r"[吗呢么][?。!]?$|怎么|怎样|如何|多久|多少|多长|几天|几点|几个|什么|哪|能不能|可不可以|可以.{0,12}吗|能否|是否"
    r"|有没有|是不是|为什么|为啥|要不要|会不会|请问"
)
_CHINESE_JOINT = re.compile(r"[,;]\s*(?=(?:另外|还有|以及|顺便|再问|同时|然后|还想问|还想|对了))|(?<=[吗呢么])[,;]\s*")
_JOINT = re.compile(
    r"(?:,|;|\s-)?\s+(?=(?:and|also|plus)\s+(?:also\s+)?(?:then\s+)?"
    r"(?:how|what|when|where|why|who|which|can|could|do|does|did|is|are|will|would|should)\b)"
    r"|(?:,|;)\s+(?=(?:how|what|when|where|why|which|can i|can you|could|do you|does|is there|are there|will)\b)",
    re.IGNORECASE,
)
_CODE_LIKE = re.compile(r"[^\s@]+@[^\s@]+|\S*\d\S*")


def questions_of(text: str, history: tuple[Line, ...]) -> tuple[Query, ...]:
    """The questions of a message, in order, each with what leads up to it.

    With two or more, the first query is the whole message, the others are its pieces; with one there is only the
    whole. A later question knows the earlier ones as history. Never empty for a text with a letter or digit.
    """
    shown = _shortened(text)
    known = history[-_LINES_OF_HISTORY:]
    pieces = _pieces(shown)
    if len(pieces) < 2:
        return (Query(_with_preamble(pieces[0]) if pieces else shown, known),)
    queries = [Query(shown, known)]
    for number, piece in enumerate(pieces):
        earlier = tuple(Line("customer", before) for before in pieces[:number])
        queries.append(Query(_with_preamble(piece), (*known, *earlier)))
    return tuple(queries)


def is_question(text: str) -> bool:
    """Whether a sentence asks something, by its form."""
    text = folded(text)
    return text.rstrip(" \"'”)").endswith("?") or bool(_ASKING.match(text) or _CHINESE_ASKING.search(text))


def is_request(text: str) -> bool:
    """Whether a sentence wants something done, by its form: "I want to cancel it", "please track it"."""
    return bool(_REQUESTING.match(folded(text)))


def is_full_question(text: str) -> bool:
    """Whether a piece asks something of its own: "and how hot?" and "can you check please?" do not."""
    full = len(text.split()) >= 4 or chinese_share(text) > 0.5
    return full and text.rstrip().endswith(("?", "？")) and bool(content_words(text))


def _shortened(text: str) -> str:
    """A text longer than can be read keeps its beginning and its end, where people ask."""
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[: LONGEST_TEXT * 3 // 4].rstrip()}\n{text[-LONGEST_TEXT // 4 :].lstrip()}"


def _pieces(text: str) -> list[str]:
    """Sentences grouped around the questions among them; one piece when there are not two questions."""
    units = [part for span in sentences(text) for part in _clauses(text, span)]
    groups: list[tuple[int, int]] = []
    opened: int | None = None
    for unit in units:
        sentence = text[unit.start : unit.end]
        start = unit.start if opened is None else opened
        if _asks_by_itself(sentence):
            groups.append((start, unit.end))
            opened = None
        elif groups and (opened is None and not _turns_elsewhere(sentence)):
            # What follows a question, unless it opens something new, explains that question.
            groups[-1] = (groups[-1][0], unit.end)
        else:
            opened = start
    if opened is not None and groups:
        groups[-1] = (groups[-1][0], len(text))
    if len(groups) > MOST_QUESTIONS:
        groups[MOST_QUESTIONS - 1 :] = [(groups[MOST_QUESTIONS - 1][0], groups[-1][1])]
    if len(groups) < 2:
        return [text.strip()] if text.strip() else []
    return [text[start:end].strip() for start, end in groups]


def _clauses(text: str, span: Span) -> list[Span]:
    """A sentence cut where a second question is joined on: "what does it cost and how long does it take?"."""
    sentence = folded(text[span.start : span.end])
    if len(sentence) > MOST_PREAMBLE:
        return [span]
    joint = _CHINESE_JOINT if re.search(f"[{CJK}]", sentence) else _JOINT
    for match in joint.finditer(sentence):
        left, right = sentence[: match.start()], sentence[match.end() :]
        if _asks_by_itself(left) and _asks_by_itself(right) and _long_enough(left) and _long_enough(right):
            rest = Span(span.start + match.end(), span.end)
            return [Span(span.start, span.start + match.start()), *_clauses(text, rest)]
    return [span]


def _long_enough(clause: str) -> bool:
    return len(clause.split()) >= 3 or len(re.findall(f"[{CJK}]", clause)) >= 4


def _asks_by_itself(sentence: str) -> bool:
    """A question or request with content; "can you help me?" asks nothing by itself. So does a bare code or address."""
    if is_question(sentence) or is_request(sentence):
        return bool(content_words(sentence))
    return len(sentence) <= 60 and bool(_CODE_LIKE.search(sentence)) and _is_little(_CODE_LIKE.sub("", sentence))


def _is_little(rest: str) -> bool:
    return len(rest.split()) <= 3 and len(re.findall(f"[{CJK}]", rest)) <= 6


def _turns_elsewhere(sentence: str) -> bool:
    return bool(
        re.match(
            r"\W*(?:also|another|second|by the way|btw|one more|另外|还有|对了|顺便|再问)", sentence, re.IGNORECASE
        )
    )


def _with_preamble(piece: str) -> str:
    """The piece with at most so much before its last question; whole sentences are dropped from the front."""
    spans = sentences(piece)
    asking = [number for number, span in enumerate(spans) if _asks_by_itself(piece[span.start : span.end])]
    if not asking or len(piece) <= MOST_PREAMBLE:
        return piece if len(piece) <= 2 * MOST_PREAMBLE or asking else piece[: 2 * MOST_PREAMBLE]
    first = asking[-1]
    while first > 0 and spans[asking[-1]].start - spans[first - 1].start <= MOST_PREAMBLE:
        first -= 1
    return piece[spans[first].start : spans[asking[-1]].start + 2 * MOST_PREAMBLE]
