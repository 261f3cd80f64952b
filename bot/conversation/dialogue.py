"""What to do with a question: (state, understanding, hits) -> Decision, pure.

Owns the order of answering and its rules: people first, open questions of ours next, then approved answers, quoted
passages, options, and "not known". Knows no wording and no model; every rule is a function of a few lines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from bot.conversation.entities import ACCEPTED, slot_value
from bot.conversation.messages import (
    Approved,
    AskFor,
    Candidate,
    Clarify,
    Decision,
    Grounded,
    HandOver,
    NotKnown,
    Part,
    SmallTalk,
    Thresholds,
    Understanding,
)
from bot.conversation.phrases import UNKNOWN_NAME, PhraseBook, plain
from bot.conversation.playbook import TALK_TO_PERSON, Intent, Playbook, Slot
from bot.conversation.questions import is_full_question, is_question, is_request
from bot.conversation.quotes import best_sentence
from bot.conversation.signals import SignalKind, place_named
from bot.conversation.state import ANYTHING_ELSE, NEVER_MIND, NO_TEXT, State
from retriever.passages import Hit

REFUSALS = 2
"""Values that may be refused for one slot before a person is brought."""
MISSES = 2
"""Turns in a row without an answer before a person is brought."""
MOST_OPTIONS = 3
MOST_HITS = 3
UNKNOWN_NAME_ODDS = 10.0
"""How a name that nobody here knows raises the odds of being out of scope: 8.2 % of the sample company's held-out
messages that are out of scope hold one, and 0.8 % of the others."""
LIKELIEST = 0.4
"""The confidence from which an intent twice as likely as the next may answer for want of a likelier passage."""
NOBODY = 2 * (Candidate("", 0.0),)
KNOWN_WORDS = 2.0
"""How the share of the question's words that a found passage holds lowers the log-odds of being out of scope."""
DOUBT = 0.1
"""From this chance of the intent being wrong, or out of scope, another article may be the better answer."""
SUPPORTED = 0.5
"""Share of the best passage's chance at which the intent's own article supports its approved answer."""
NEARLY_AS_GOOD = 0.33
"""Share of the best passage's chance from which another passage is quoted beside it."""


@dataclass(frozen=True, slots=True)
class Matter:
    """Everything one decision may depend on."""

    text: str
    meaning: Understanding
    hits: tuple[Hit, ...]
    state: State
    playbook: Playbook
    thresholds: Thresholds
    now: datetime
    degraded: bool = False
    """A model or the index failed: what is not settled without them is our fault, not the customer's."""

    def shows(self, kind: SignalKind) -> bool:
        return any(entity.kind == kind for entity in self.meaning.entities)

    @property
    def intent(self) -> Intent | None:
        """The intent that may be acted on."""
        foreign = self.out_of_scope > self.thresholds.out_of_scope
        return self.playbook.intent(self.meaning.intent) if self.meaning.intent and not foreign else None

    @property
    def out_of_scope(self) -> float:
        """The model's score, its odds raised by a name that neither an example nor a found passage holds, and lowered
        by words of the question that a found passage has."""
        score = self.meaning.out_of_scope
        names = [entity.value for entity in self.meaning.entities if entity.kind == UNKNOWN_NAME]
        found = " ".join(f"{hit.passage.title} {' '.join(hit.passage.heading)} {hit.passage.text}" for hit in self.hits)
        odds = math.exp(-KNOWN_WORDS * max((hit.why.words for hit in self.hits[:3]), default=0.0))
        if any(not re.search(rf"\b{re.escape(name)}\b", found) for name in names):
            odds *= UNKNOWN_NAME_ODDS
        return odds * score / (1 + (odds - 1) * score)

    @property
    def passage_needed(self) -> float:
        """The chance of answering from which a passage may be quoted."""
        return self.thresholds.passage_by_words if PhraseBook.reads(self.text) else self.thresholds.passage

    @property
    def nearly_certain(self) -> float:
        """The chance from which a passage outweighs what speaks against quoting it."""
        return (1 + self.passage_needed) / 2

    @property
    def angry(self) -> bool:
        return any(entity.kind == "angry" and entity.value == "strong" for entity in self.meaning.entities)


def decide(matter: Matter) -> Decision:
    """The decision for one question. The rules stand in the order in which they win."""
    decision = next((found for rule in ORDER_OF_ANSWERING if (found := rule(matter)) is not None), None)
    return _misses(matter) if decision is None else decision


def decide_all(matters: Sequence[Matter]) -> tuple[Part, ...]:
    """The parts that a message is answered in. `matters` is one question, or the whole message and then its pieces."""
    parts: list[Part] = []
    told = False
    for number, matter in enumerate(matters):
        if told:
            # A piece has told what we asked for; the next ones are matters of their own.
            matter = replace(matter, state=replace(matter.state, pending=None, interrupted=None, offered=()))
        decision = decide(matter)
        parts.append(Part(matter.text, matter.meaning, matter.hits, decision))
        pending = matter.state.pending
        told = told or (number > 0 and pending is not None and _goes_on(decision, pending.intent))
    settled = settle(parts[0], tuple(parts[1:])) if len(parts) > 1 else tuple(parts)
    settled = (*settled, *_asked_beside(matters[0], settled))
    return tuple(one for part in settled for one in _with_hand_over(part, matters[0].playbook))


def settle(whole: Part, pieces: tuple[Part, ...]) -> tuple[Part, ...]:
    """The pieces of a message when each got something of its own, else the whole.

    Cutting a message is a guess. It holds when at least two pieces are met differently, or one is met and another
    is a full question that is not; small talk does not count. It does not hold when it parts a question from the value
    that it needs ("when do I get my money? order LM482913").
    """
    asked_for = {part.decision.intent for part in pieces if isinstance(part.decision, AskFor)}
    if isinstance(whole.decision, Approved) and whole.decision.intent in asked_for:
        return (whole,)
    told = [part for part in pieces if not isinstance(part.decision, SmallTalk)]
    for part in told:
        if isinstance(part.decision, HandOver) and part.decision.reason != "not_known_twice":
            return (part,)
    met = [part for part in told if not isinstance(part.decision, NotKnown | Clarify | HandOver)]
    different = [part for number, part in enumerate(met) if not any(_same(part, other) for other in met[:number])]
    open_questions = [part for part in told if part not in met and is_full_question(part.question)]
    missed = [
        part if isinstance(part.decision, Clarify) else replace(part, decision=NotKnown()) for part in open_questions
    ]
    whole_met = not isinstance(whole.decision, NotKnown | Clarify | HandOver)
    if len(different) >= 2 or (different and (missed or not whole_met)):
        return (*different, *missed)
    return (whole,)


def _goes_on(decision: Decision, intent: str) -> bool:
    refused = isinstance(decision, AskFor) and decision.problem
    return isinstance(decision, Approved | AskFor) and decision.intent == intent and not refused


def _asked_beside(whole: Matter, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The other questions that the bot asked something for, once the customer goes on with the one that is pending."""
    pending = whole.state.pending
    acted_on = [part.decision for part in parts if isinstance(part.decision, Approved | AskFor)]
    goes_on = next((one for one in acted_on if pending is not None and one.intent == pending.intent), None)
    if goes_on is None:
        return ()
    told = goes_on.slots if isinstance(goes_on, Approved) else goes_on.filled
    found = []
    for asked in whole.state.asked_beside:
        intent = whole.playbook.intent(asked.intent)
        if intent is not None and all(one.intent != asked.intent for one in acted_on):
            filled = (*asked.filled, *(pair for pair in told if pair[0] in intent.slots))
            found.append(Part(whole.text, whole.meaning, whole.hits, _act(whole, intent, filled)))
    return tuple(found)


def _with_hand_over(part: Part, playbook: Playbook) -> tuple[Part, ...]:
    """The part, and a second one when the playbook brings a person after its approved answer."""
    intent = playbook.intent(part.decision.intent) if isinstance(part.decision, Approved) else None
    brings = intent is not None and intent.then == "hand_over"
    return (part, replace(part, decision=HandOver("policy"))) if brings else (part,)


def _same(one: Part, other: Part) -> bool:
    match one.decision, other.decision:
        case Grounded(hits=hits), Grounded(hits=others):
            return hits[0].passage.id == others[0].passage.id
        case ((Approved(intent=name) | AskFor(intent=name)), (Approved(intent=other_name) | AskFor(intent=other_name))):
            return name == other_name
        case _:
            return False


def _waits(matter: Matter) -> Decision | None:
    """While a person is on the way the bot holds the line; only taking it back ends that."""
    if matter.state.waiting is None:
        return None
    return SmallTalk(NEVER_MIND) if matter.shows("never_mind") else HandOver(matter.state.waiting)


def _person(matter: Matter) -> Decision | None:
    asked = matter.shows("wants_person") or matter.meaning.intent == TALK_TO_PERSON
    agreed = matter.state.misses > 0 and not matter.state.offered and matter.shows("yes")
    if asked or agreed:
        return matter.state.asked_person
    if matter.angry and matter.state.was_angry:
        return HandOver("angry")
    intent = matter.intent
    return HandOver("policy") if intent is not None and intent.kind == "hand_over" else None


def _says_nothing(matter: Matter) -> Decision | None:
    wordless = not any(character.isalnum() for character in matter.text)
    if not wordless or matter.angry or (matter.shows("yes") and matter.state != State()):
        return None
    return SmallTalk(NO_TEXT)


def _takes_back(matter: Matter) -> Decision | None:
    state = matter.state
    about = (*(asked.intent for asked in (state.pending, state.interrupted) if asked is not None), *state.offered)
    # "Cancel it" takes nothing back where cancelling is what it is about.
    taken_back = about and matter.shows("never_mind") and not matter.playbook.titled(matter.text, about)
    refuses = state.pending and matter.shows("no") and not matter.shows("has_none")  # that takes nothing back
    return SmallTalk(NEVER_MIND) if taken_back or refuses else None


def _picks(matter: Matter) -> Decision | None:
    """One of the options of the last reply, by number, by title or by its place."""
    options = matter.state.offered
    if not options:
        return None
    if matter.shows("none_of_these") or (matter.shows("no") and matter.intent is None):
        return _misses(matter)
    titled = matter.playbook.titled(matter.text, options) if matter.shows("never_mind") else ()
    chosen = titled[0] if len(titled) == 1 else _picked(matter.text, options, matter.playbook)
    if chosen is not None:
        return _act(matter, chosen)
    return Clarify(options) if matter.shows("yes") and not matter.state.offered_again else None


def _picked(text: str, options: tuple[str, ...], playbook: Playbook) -> Intent | None:
    place = place_named(text, len(options))
    if place is not None:
        return playbook.intent(options[place])
    said = plain(text)
    for option in options:
        intent = playbook.intent(option)
        titles = [plain(title) for _, title in intent.title.said] if intent else []
        if said and any(said == title or (len(said.split()) >= 2 and said in title) for title in titles):
            return intent
    return None


def _fills(matter: Matter) -> Decision | None:
    """The value we asked for; a change of topic or a question of the customer's own goes first."""
    asked = matter.state.pending
    intent = matter.playbook.intent(asked.intent) if asked else None
    slot = matter.playbook.slot(asked.slot) if asked else None
    if asked is None or intent is None or slot is None or asked.slot not in intent.slots:
        return None
    other = matter.intent if matter.intent is not None and matter.intent.name != intent.name else None
    if other is not None and other.kind == "answer" and (is_question(matter.text) or is_request(matter.text)):
        return None
    value = _heard(matter, slot, dict(asked.filled)) or slot_value(matter.text, slot.kind, slot.pattern, matter.now)
    if matter.playbook.value_for(slot, (value,), {}):
        return _act(matter, intent, (*asked.filled, (slot.name, value)))
    asks = is_question(matter.text) and _good_hits(matter)
    if other is not None or asks or (matter.degraded and is_question(matter.text)):
        return None
    if matter.shows("yes"):
        return AskFor(intent.name, slot.name, asked.filled)
    if matter.state.refused_values + 1 >= REFUSALS:
        return HandOver("not_known_twice")
    return AskFor(intent.name, slot.name, asked.filled, problem=f"no {slot.kind} in the message")


def _resumes(matter: Matter) -> Decision | None:
    """The value for a question that a change of topic left open, when it arrives after all."""
    asked = matter.state.interrupted
    intent = matter.playbook.intent(asked.intent) if asked else None
    slot = matter.playbook.slot(asked.slot) if asked else None
    if asked is None or intent is None or slot is None:
        return None
    # A reader that reads the conversation may still hear the topic that was just dealt with.
    elsewhere = matter.intent is not None and matter.intent.name not in (asked.intent, *matter.state.answered)
    value = _heard(matter, slot, dict(asked.filled))
    if not value or elsewhere or is_question(matter.text):
        return None
    return _act(matter, intent, (*asked.filled, (slot.name, value)))


def _small_talk(matter: Matter) -> Decision | None:
    intent = matter.intent
    if intent is not None and intent.kind == "small_talk":
        return SmallTalk(intent.name)
    plain_yes_or_no = matter.shows("yes") or matter.shows("no") or matter.shows("never_mind")
    return SmallTalk(ANYTHING_ELSE) if plain_yes_or_no and intent is None and not matter.state.offered else None


def _approves(matter: Matter) -> Decision | None:
    intent = matter.intent
    if intent is None:
        return None
    passage = _better_passage(matter, intent)
    return Grounded(passage) if passage else _act(matter, intent)


def _better_passage(matter: Matter, intent: Intent) -> tuple[Hit, ...]:
    """Passages to quote although an approved answer is at hand.

    A classifier knows only the intents it was taught, so it picks the nearest one also when an article answers the very
    question. Another article than the intent's own therefore goes first when it may be quoted and the intent is in
    doubt; without doubt, or where the approved answer begins with asking the customer for something, only when it is
    nearly certain. And where the intent may be an echo of what was just said (its answer given, or its slot asked
    for), a follow-up such as "and for Canada?" wants something else.
    """
    hits = _good_hits(matter)
    if not hits:
        return ()
    if intent.name in matter.state.answered and matter.shows("follow_up"):
        return hits
    own = [hit.answers for hit in matter.hits if matter.playbook.is_article(hit.passage.source, intent.article)]
    if max(own, default=0.0) >= SUPPORTED * hits[0].answers:
        return ()
    pending = matter.state.pending
    echo = pending is not None and pending.intent == intent.name and is_question(matter.text)
    sure = max(1 - matter.meaning.confidence, matter.out_of_scope) < DOUBT
    needed = matter.nearly_certain if sure or intent.slots else matter.passage_needed
    return hits if echo or hits[0].answers >= needed else ()


def _quotes(matter: Matter) -> Decision | None:
    """What most likely answers, unless the question is foreign: whatever it is about, some passage is the nearest.

    That is an intent, although not sure enough to go first, when no passage and no other intent is as likely.
    """
    if matter.out_of_scope > matter.thresholds.foreign:
        return None
    hits = _good_hits(matter)
    best, second = (*matter.meaning.runners_up, *NOBODY)[:2]
    intent = matter.playbook.intent(best.intent)
    leads = matter.meaning.intent is None and best.confidence >= LIKELIEST and second.confidence <= best.confidence / 2
    if intent is not None and leads and best.confidence >= _any_answers(hits):
        return _act(matter, intent)
    return Grounded(hits) if hits else None


def _good_hits(matter: Matter) -> tuple[Hit, ...]:
    """The hits to quote, best first, in the customer's language when one of them is good enough; none when they are
    unlikely to answer. Where two documents are about as likely, both are quoted, and either may be the one."""
    own = [hit for hit in matter.hits if hit.passage.language == matter.meaning.language]
    for hits in (own, matter.hits):
        best = sorted(hits, key=lambda hit: -hit.answers)
        close = tuple(hit for hit in best if hit.answers >= NEARLY_AS_GOOD * best[0].answers)[:MOST_HITS]
        told = tuple(hit for hit in close if _says_it(matter, hit))
        if told and _any_answers(told) >= matter.passage_needed:
            return told
    return ()


def _says_it(matter: Matter, hit: Hit) -> bool:
    """Whether a sentence of the passage holds enough of the question's own words, where that is asked for."""
    needed = 0.0 if PhraseBook.reads(matter.text) or matter.shows("follow_up") else matter.thresholds.sentence
    sure = hit.answers >= matter.nearly_certain
    return not needed or sure or best_sentence(matter.text, hit.passage, matter.hits) >= needed


def _any_answers(hits: Sequence[Hit]) -> float:
    """The chance that one of the hits answers: that of the best of each document, added up."""
    documents: dict[str, float] = {}
    for hit in hits:
        documents[hit.passage.source] = max(documents.get(hit.passage.source, 0.0), hit.answers)
    return min(1.0, sum(documents.values()))


def _explores(matter: Matter) -> Decision | None:
    """A message that is nothing but, say, an order number: what could be done with it?"""
    values = [entity for entity in matter.meaning.entities if entity.score >= ACCEPTED and entity.value]
    covered = sum(entity.end - entity.start for entity in values)
    if not values or covered < 0.8 * len(matter.text.strip()) or is_question(matter.text):
        return None
    slots = {slot.name for slot in matter.playbook.slots if slot.kind == values[0].kind}
    fitting = [intent for intent in matter.playbook.intents if slots.intersection(intent.slots)]
    if len(fitting) == 1:
        return _act(matter, fitting[0])
    return Clarify(tuple(intent.name for intent in fitting[:MOST_OPTIONS])) if fitting else None


def _offers(matter: Matter) -> Decision | None:
    """Two or three intents, one of which is likely meant; offering the same options twice helps nobody."""
    if matter.out_of_scope > matter.thresholds.out_of_scope or matter.angry or matter.degraded or matter.meaning.urgent:
        return None
    likely = [
        candidate
        for candidate in matter.meaning.runners_up
        if candidate.confidence >= matter.thresholds.clarify
        and (intent := matter.playbook.intent(candidate.intent))
        and intent.kind != "small_talk"
        and intent.title
    ][:MOST_OPTIONS]
    options = tuple(candidate.intent for candidate in likely)
    together = sum(candidate.confidence for candidate in likely)
    worth_offering = len(options) >= 2 and together >= matter.thresholds.intent and options != matter.state.offered
    return Clarify(options) if worth_offering else None


def _misses(matter: Matter) -> Decision:
    if matter.degraded:
        return HandOver("error")
    if matter.angry:
        return HandOver("angry")
    if matter.meaning.urgent:  # what cannot wait is not asked to be put another way
        return HandOver("urgent")
    return HandOver("not_known_twice") if matter.state.misses + 1 >= MISSES else NotKnown()


def _act(matter: Matter, intent: Intent, filled: tuple[tuple[str, str], ...] = ()) -> Decision:
    """Does what the playbook says for `intent`, asking for the first slot that nobody has told."""
    if intent.kind == "small_talk":
        return SmallTalk(intent.name)
    if intent.kind == "hand_over":
        return matter.state.asked_person if intent.name == TALK_TO_PERSON else HandOver("policy")
    known = dict(filled)
    for name in intent.slots:
        slot = matter.playbook.slot(name)
        value = known.get(name, "")
        if not value and slot is not None:
            value = _heard(matter, slot, known) or matter.state.remembered(slot, matter.playbook, known)
        if not value:
            return AskFor(intent.name, name, tuple(known.items()))
        known[name] = value
    return Approved(intent.name, tuple((name, known[name]) for name in intent.slots))


def _heard(matter: Matter, slot: Slot, filled: Mapping[str, str]) -> str:
    """The slot's value in the message itself, or empty."""
    values = (entity.value for entity in matter.meaning.entities if entity.kind == slot.kind)
    return matter.playbook.value_for(slot, values, filled)


ORDER_OF_ANSWERING = (
    _waits, _person, _says_nothing, _takes_back, _picks, _fills, _small_talk,
    _resumes, _approves, _explores, _quotes, _offers,
)  # fmt: skip
"""The first rule that has a decision wins; when none has, nothing is known."""
