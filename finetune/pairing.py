"""Which reply of a conversation answered which question.

Owns the rules of thumb: what is chatter, what asks, what only plays for time, and what answers. Works on masked
conversations. Knows nothing about files or models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from finetune.dialogues import Dialogue, Spoken
from finetune.examples import MAX_TEXT, Example

HISTORY_LINES = 8
"""Lines of conversation kept with a row; models read fewer."""

_TOLD = 6
"""Words from which a message without any question is taken to tell of a problem ("my card was charged twice ...")."""
_ASKED = 4
_ANSWERED = 5

# ------------------------------------------------------------------------------------------------------- sentences

_SENTENCE = re.compile(r"\S(?:[^\n.!?。！？…]|[.!?]+(?![\s.!?]|$))*(?:[.!?。！？…]+)?", re.MULTILINE)
_WORD = re.compile(r"[^\W_]")
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_COURTESY = re.compile(
    r"(?:\W*(?:"
    r"(?:hi|hello|hey|dear|good (?:morning|afternoon|evening|day))(?: there| all| again| sir| madam| everyone)?"
    r"(?: \[name-\d+\])?(?![\w'])"
    r"|(?:and )?welcome to [^.!?\n]*|(?:you'?re |you are )?(?:very |most )?welcome\b"
    r"|(?:many )?(?:thanks|thank you|thx|cheers)(?: so much| very much| a lot| again| anyway)?"
    r"(?: for (?:your|the|all|waiting|contacting|reaching|getting|writing|letting|telling|being|that)[^,.!?;:\n]*)?"
    r"(?![\w'])"
    r"|(?:my pleasure|no (?:problem|worries)|any ?time|glad to help|happy to help)\b"
    r"|(?:good ?bye|bye|see you|take care|have a (?:nice|good|great|lovely) \w+)\b"
    r"|(?:ok|okay|great|perfect|alright|all right|got it|i see|cool|noted|understood)(?=\W*$|[,.!:;])"
    r"|(?:and |so )?(?:how|what) (?:can|may|could) (?:i|we) (?:help|assist|do for you)[^.!?\n]*"
    r"|(?:is there |was there )?anything else[^.!?\n]*"
    r"|(?:my name is|i'?m|i am|this is) \[name-\d+\](?: here)?(?![\w'])|\[name-\d+\](?: here)?"
    r"|你好|您好|亲爱的|亲(?!自)|早上好|上午好|中午好|下午好|晚上好|在吗|在么|在的|哈喽"
    r"|(?:非常|十分|多)?(?:谢谢|感谢|多谢)(?:您|你|了|啦|啊|亲|大家)*"
    r"(?:的?(?:咨询|来信|来电|耐心|等待|等候|理解|支持|反馈|回复|帮助|配合))*"
    r"|不客气|不用谢|不谢|没关系|没事"
    r"|(?:好的|好滴|好吧|好呀|好|嗯+|哦+|收到|明白了?|知道了|了解了?|行)"
    r"(?=[^\u3400-\u9fff]|$|谢|感谢|多谢|再见|拜拜)"
    r"|再见|拜拜|辛苦了?|欢迎(?:光临|咨询|来到|您)[^。！？\n]*|祝您?[^。！？\n]*"
    r"|(?:请问)?(?:您?有|还有)?(?:什么|啥|其他|别的)(?:问题)?(?:可以|能|需要)(?:帮|为)[^。！？\n]*"
    r"|请问有什么[^。！？\n]*|(?:请问)?还有(?:什么|其他|别的)[^。！？\n]*"
    r"))*",
    re.IGNORECASE,
)
"""Greetings, thanks and the like at the beginning of a sentence, one after the other."""
_PLAYS_FOR_TIME = re.compile(
    r"\W*(?:(?:sorry|so|well|hm+|unfortunately|honestly|actually|i'?m afraid|i am afraid|that said|to be honest"
    r"|then)\b\W*)*"
    r"(?:(?:let me|let us|allow me to|(?:i|we)(?:'ll| will| am going to|'m going to| need to| have to| must))"
    r" (?:just |quickly |also |first |have to )*"
    r"(?:(?:double-?)?check\b|look (?:into|it up|that up|this up|at)|see (?:if|what|whether)|find out|get back|verify\b"
    r"|investigate|(?:have|take) a (?:quick )?look|pull (?:that|it|this) up|in?quire|enquire"
    r"|ask (?:a|an|my|our|the|them|him|her|around|someone|somebody|internally)\b"
    r"|(?:forward|pass|transfer|hand|connect|escalate|put)\b[^.!?]*\b(?:to|over|through|with|on)\b|bring in"
    r"|get (?:someone|somebody|a colleague|a person))"
    r"|(?:i'?m|i am|we'?re|we are) (?:just |now |currently )*(?:checking|looking|asking|transferring|passing|forwarding"
    r"|connecting|escalating|handing|bringing in|putting you through)\b"
    r"|(?:checking|looking into|transferring|connecting)\b"
    r"|(?:just )?(?:one|a) (?:moment|second|sec|minute|min)(?: please)?(?=\W|$)(?! \w)|hold on\b"
    r"|(?:please )?bear with me\b|please (?:wait|hold on|hold the line|stand by)\b"
    r"|(?:please )?give me (?:a|one|some|a few) (?:moment|second|sec|minute|time)"
    r"|(?:someone|somebody|a colleague|my colleague|a person|an agent|a specialist) will"
    r" (?:get back|be in touch|contact|reply|answer|take over|write|call)"
    r"|(?:我|我们|这边|这里|正在|马上|让我)(?:这边|来|去|先|马上|会|再|需要)*(?:帮|替|给|为)?(?:您|你)?(?:去|来|先|再)*"
    r"(?:查询|查|看|问|核实|确认|咨询|转接|转|反馈)(?!了|过|到)"
    r"|(?:帮|替|给|为)(?:您|你)(?:查|看|问|核实|确认|转)(?!了|过|到)"
    r"|稍后[^。！？]{0,8}(?:回复|答复|联系|告诉)|转接|转人工|(?:请|麻烦)?(?:您|你)?(?:稍等|稍候|等一下|等一等|等等))",
    re.IGNORECASE,
)
"""Checking, asking others, handing over: a reply, but no answer."""
_DOES_NOT_KNOW = re.compile(
    r"(?:^|[.!?]\s{1,3})\W{0,3}(?:(?:sorry|well|hm+|unfortunately|honestly|actually|i'?m afraid|to be honest|but"
    r"|and)\b\W{0,3})*"
    r"(?:(?:i|we)(?: do not|(?: really)? don'?t) (?:really |actually )?know\b|no idea\b"
    r"|(?:i|we)(?:'m| am|'re| are) (?:not (?:quite |entirely |really |so |completely )?(?:sure|certain)|unsure)\b"
    r"|(?:i|we) (?:can'?t|cannot|can not|could not|couldn'?t|did not|didn'?t) find (?:a|an|any)\b[^.!?]*"
    r"\b(?:answer|information))"
    r"|我们?(?:这边)?(?:也|还|暂时)?(?:不太|不大|不是很|不)(?:清楚|知道|了解|确定)|没听说过"
    r"|没有?找到[^。！？]{0,8}(?:答案|信息)",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSES = re.compile(r"\b(?:thanks|thank you|thx|cheers|bye|goodbye)\b|谢|再见|拜拜", re.IGNORECASE)
_OFFERS = re.compile(
    r"^\W*(?:and |so )?(?:(?:shall|should) (?:i|we)|would you like (?:me|us) to|do you want (?:me|us) to|want me to"
    r"|(?:is there |was there )?anything (?:else|more)"
    r"|do(?:es)? (?:that|this|it) (?:help|answer|work|solve|make sense|sound)"
    r"|did (?:that|this|it) (?:help|work|solve)|is (?:that|this|it) (?:ok|okay|all|clear|fine|alright)|ok(?:ay)?\W*$"
    r"|can (?:i|we) (?:help|do|assist))\b"
    r"|^(?:需要我|要不要我|要我|还有|这样|您看|可以吗|好吗|行吗|清楚了吗|明白了吗)",
    re.IGNORECASE,
)
"""Questions behind an answer that ask for nothing the answer depends on."""
_REQUESTS = re.compile(
    r"^\W*(?:please|kindly|could you|can you|would you|may i|can i|could i)(?: please| kindly)?"
    r" (?:tell|give|provide|share|confirm|have|get|specify|let me know)\b[^.!]*"
    r"\b(?:your|which|what|whether|the (?:number|order))\b"
    r"|(?:请|麻烦)(?:您|你)?(?:先|再)?(?:提供|告诉|告知|发|说)(?:一下|下|给我|我)*[^。！]{0,6}"
    r"(?:订单|单号|邮箱|电话|手机|姓名|名字|截图|照片|图片|地址|型号|哪)",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"[?？]|^\W*(?:i want to|i'?d like|i would like|i need|need to|help me)\b"
    r"|^\W*(?:who|what|when|where|why|which|how|can|could|do|does|did|is|are|will|would|should|may|am|have|has)\b"
    r"|吗|呢(?![\u3400-\u9fff])|怎么|怎样|如何|什么|多少|多久|多长|几[点天号个件周月]|哪[里儿个些种款]?|谁|是否"
    r"|能不能|可不可以|可以不|有没有|要不要|是不是|为啥|为何|帮我|帮忙|麻烦|我想|我要|不想|想要|想[退换取订改买问查]",
    re.IGNORECASE,
)


def _length(text: str) -> int:
    """Words, a CJK character counting as half a word."""
    return len(_CJK.sub(" ", text).split()) + len(_CJK.findall(text)) // 2


def _rest(sentence: str) -> str:
    """The sentence behind its greetings and thanks."""
    found = _COURTESY.match(sentence)
    return sentence[found.end() :] if found else sentence


def _said(text: str) -> list[str]:
    """The sentences of a text without courtesies; those that are nothing else left out."""
    rests = (_rest(sentence) for sentence in _SENTENCE.findall(text))
    return [rest for rest in rests if _WORD.search(rest)]


def is_chatter(text: str) -> bool:
    """Whether a message says nothing but hello, thanks or goodbye."""
    return not _said(text)


# ---------------------------------------------------------------------------------------------- questions, answers


def _asks(said: Sequence[str]) -> bool:
    """Whether a customer's sentences hold a question or a request."""
    long = sum(map(_length, said)) >= _ASKED or sum(len(_CJK.findall(one)) for one in said) >= _ASKED
    return long and any(_ASKS.search(one) for one in said)


def _tells(said: Sequence[str]) -> bool:
    """Whether a customer's sentences tell of a problem at some length."""
    return sum(map(_length, said)) >= _TOLD or sum(len(_CJK.findall(one)) for one in said) >= _TOLD


def answer_in(reply: str) -> str:
    """What of an agent's reply answers something, word for word; empty when nothing does.

    Left out are sentences that greet, thank, play for time or offer more. A reply that asks back answers nothing yet,
    and one that does not know answers nothing.
    """
    kept = [sentence for sentence in _SENTENCE.finditer(reply) if _informs(sentence.group())]
    while kept and _is_question(kept[-1].group()) and _OFFERS.search(kept[-1].group()):
        kept.pop()
    asked_back = kept and any(_is_question(sentence.group()) for sentence in (kept[0], kept[-1]))
    if not kept or asked_back or any(_REQUESTS.search(sentence.group()) for sentence in kept):
        return ""
    if _DOES_NOT_KNOW.search(reply):
        return ""
    rests = [_rest(sentence.group()) for sentence in kept]
    if sum(map(_length, rests)) < _ANSWERED and sum(len(_CJK.findall(rest)) for rest in rests) < _ANSWERED:
        return ""
    return _joined(reply, kept)


def _informs(sentence: str) -> bool:
    rest = _rest(sentence)
    return _WORD.search(rest) is not None and _PLAYS_FOR_TIME.match(rest) is None


def _is_question(sentence: str) -> bool:
    return sentence.rstrip().endswith(("?", "？"))


def _joined(text: str, kept: Sequence[re.Match[str]]) -> str:
    """The kept sentences with what stood between them, where nothing was left out."""
    pieces = [kept[0].group()]
    for before, sentence in pairwise(kept):
        between = text[before.end() : sentence.start()]
        pieces += (between if not between.strip() else "\n" if "\n" in between else " ", sentence.group())
    return "".join(pieces)


def answers(question: str, reply: str) -> bool:
    """Whether the reply plausibly answers a question or a problem."""
    said = _said(question)
    return (_asks(said) or _tells(said)) and bool(answer_in(reply))


# ---------------------------------------------------------------------------------------------------------- pairing


def examples_from(dialogue: Dialogue) -> Iterator[Example]:
    """One row per agent reply that a bot could have given in answer to the customer's last message.

    `intent` is the template, if the agent chose one; `answer` is what of the reply answers a question. Replies that
    follow another reply are joined to it: a bot answers a message once. Where an agent first asks back, what is
    answered next answers the question before it too. What bots said is history, never an answer.
    """
    lines: list[tuple[str, str]] = []
    open_question: tuple[str, tuple[tuple[str, str], ...]] | None = None
    for asked, replies in _exchanges(dialogue.turns):
        text = "\n".join(_without_chatter(asked))[:MAX_TEXT].strip()
        history = tuple(lines[-HISTORY_LINES:])
        lines += [(turn.speaker, turn.text[:MAX_TEXT].strip()) for turn in (*asked, *replies)]
        if not asked or not replies:
            continue
        template = next((turn.template for turn in replies if turn.template), None)
        answer = answer_in("\n".join(turn.text for turn in replies if turn.speaker == "agent"))[:MAX_TEXT].strip()
        said = _said(text)
        asked_now = _asks(said)
        if not said and _CLOSES.search(text):
            open_question = None  # what comes now is no answer any more
        elif open_question is not None and not asked_now and answer:
            before, its_history = open_question
            yield _row(dialogue, before, None, its_history, answer)
            open_question = None
        if asked_now or _tells(said):
            if template or answer:
                yield _row(dialogue, text, template, history, answer)
            if asked_now:
                open_question = None if template or answer else (text, history)
        elif template:
            yield _row(dialogue, text, template, history, "")


def _row(
    dialogue: Dialogue, text: str, template: str | None, history: tuple[tuple[str, str], ...], answer: str
) -> Example:
    group = f"conversation:{dialogue.id}"
    return Example(text, template, history, answer, dialogue.topics, group, dialogue.origin, dialogue.consent)


def _without_chatter(turns: Sequence[Spoken]) -> Iterable[str]:
    """What the customer said before a reply, without "hi" and "thanks" where there is more."""
    said = [turn.text for turn in turns]
    return [text for text in said if not is_chatter(text)] or said


def _exchanges(turns: Sequence[Spoken]) -> Iterator[tuple[Sequence[Spoken], Sequence[Spoken]]]:
    """What the customer said, and what was replied, as often as it goes back and forth."""
    index = 0
    while index < len(turns):
        asked, index = _run(turns, index, customer=True)
        replies, index = _run(turns, index, customer=False)
        yield asked, replies


def _run(turns: Sequence[Spoken], start: int, customer: bool) -> tuple[Sequence[Spoken], int]:
    end = start
    while end < len(turns) and (turns[end].speaker == "customer") is customer:
        end += 1
    return turns[start:end], end
