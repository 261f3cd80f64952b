"""What a message does rather than what it asks: wants a person, is angry, takes back, agrees, refuses, follows up.

Recognisers are data, as for entities: patterns in both languages, with the near misses they must leave alone. They
work when no model is loaded. Knows nothing about what a signal leads to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from bot.conversation.messages import Entity
from bot.conversation.words import folded

SignalKind = Literal["wants_person", "angry", "never_mind", "yes", "no", "has_none", "none_of_these", "follow_up"]


@dataclass(frozen=True, slots=True)
class Signal:
    """A way to find one kind of signal.

    `whole` asks that the pattern is the entire message; `unless` refuses a match that stands right after it.
    """

    kind: SignalKind
    why: str
    pattern: re.Pattern[str]
    value: str = ""
    whole: bool = False
    unless: re.Pattern[str] | None = None


def _signal(
    kind: SignalKind, why: str, *alternatives: str, value: str = "", whole: bool = False, unless: str = ""
) -> Signal:
    pattern = re.compile("|".join(alternatives), re.IGNORECASE)
    return Signal(kind, why, pattern, value, whole, re.compile(unless, re.IGNORECASE) if unless else None)


def _said(*words: str, also: str = "") -> str:
    """A message of nothing but these words, once or a few times, with courtesies and punctuation."""
    pause = r"[\s,.!。~]*+"
    return rf"[\s,.]*+(?:(?:{'|'.join(words)}){pause}){{1,4}}(?:(?:{also or 'please'}){pause}){{0,5}}"


_SOMEBODY = (
    r"(?:human(?: being)?|person|agents?|representative|rep|operator|advis[oe]r|staff|manager|supervisor|colleague"
    r"|people|(?:customer|support) (?:service|support|team|agent|rep)|support|customer care)\b"
)
_REAL = r"(?:(?:a|an|the|some|your|one of your|real|live|actual|proper|human|another)\s+)*"
_NOT_WANTED = r"(?:don'?t|do not|didn'?t|not|no need|never|without|instead of|rather than)\s(?:\w+\s){0,3}$"
_NOT_NOW = r"\b(?:was|were|been|already|after|when i|while|kept|tried|am i|are we|is this|who am i)\s(?:just\s)?$"
_NOT_WANTED_CHINESE = r"(?:不要|不用|不想|别|无需|不需要|没有?|刚|已经|昨天|之前)$"

_PERSON_SIGNALS = (
    _signal(
        "wants_person",
        "asks for a person in a word",
        r"(?:please |pls |i want |i need |give me |get me |just )*"
        rf"{_REAL}(?:human|person|agent|representative|rep|operator)(?: please| pls| now)*\W*",
        whole=True,
    ),
    _signal(
        "wants_person",
        "asks to talk to a person",
        rf"\b(?:talk|speak|chat)(?:ing)?\s+(?:to|with)\s+{_REAL}{_SOMEBODY}",
        r"\b(?:talk|speak)\s+(?:to|with)\s+(?:someone|somebody|anyone|anybody)\b(?! who sold)",
        unless=f"{_NOT_WANTED}|{_NOT_NOW}",
    ),
    _signal(
        "wants_person",
        "asks to be put through",
        r"\b(?:connect|transfer|put|pass|switch|hand|escalate|redirect)\s+(?:me|us|this|it)\s+"
        rf"(?:over\s+|through\s+|on\s+)?(?:to|with)\s+(?:{_REAL}{_SOMEBODY}|someone\b|somebody\b)",
        unless=_NOT_WANTED,
    ),
    _signal(
        "wants_person",
        "wants a person",
        r"\b(?:want|need|get me|give me|prefer|like|bring(?: in)?|is there|are there)\s+(?:to have\s+)?"
        r"(?:(?:a|an|any|some|real|live|actual)\s+)+"
        r"(?:human(?: being)?s?|(?:real |live )?person|(?:real )?people|(?:human )?agent|representative)\b"
        r"(?!\s+(?:to (?:sign|receive|accept|carry|pick)|at home|who ordered))",
        unless=rf"{_NOT_WANTED}|\bwhy (?:do|would) (?:i|you)\s$",
    ),
    _signal(
        "wants_person",
        "wants no bot",
        r"\b(?:not|no more|stop with|hate|sick of)\s+(?:a\s+|this\s+|the\s+|your\s+|stupid\s+)*(?:ro)?bots?\b",
    ),
    _signal(
        "wants_person",
        "要转人工",
        r"(?:转接?|接|叫|找|换|要|切换到?|联系)(?:一?[个下位名])?(?:人工|真人|活人)(?:客服|服务)?(?!智能|费)",
        unless=_NOT_WANTED_CHINESE,
    ),
    _signal(
        "wants_person",
        "要找客服",
        r"(?:转接?|我要找?|帮我找|给我找|叫|换)(?:一?[个下位名])?(?:你们的?)?(?:客服|经理|主管|领导|老板)"
        r"(?!电话|号码|邮箱)",
        unless=_NOT_WANTED_CHINESE,
    ),
    _signal(
        "wants_person",
        "人工",
        r"(?:请?给?我?|麻烦)?(?:人工|人工客服|人工服务|真人|真人客服|找客服|客服)[吧呢啊。!~]*",
        whole=True,
    ),
    _signal(
        "wants_person",
        "要跟真人说",
        r"(?:和|跟|与|同|想|要)(?:真人|人工(?:客服)?|客服|工作人员|活人|你们的?人|经理)"
        r"(?:说话?|聊|谈|沟通|讲|对话|通话|交流)(?!过|了)",
        unless=_NOT_WANTED_CHINESE,
    ),
)

_ANGER_SIGNALS = (
    _signal(
        "angry",
        "insult or threat",
        r"\bf+u+c+k\w*|\bbull\s?shit\b|\bcrooks?\b|\brip.?off\b",
        r"\b(?:you|your|this|what a|it'?s a|total|such a)\b[^.!?]{0,20}\bscam(?:mers?)?\b"
        r"(?!.{0,30}(?:\?|e-?mail|text|sms|site))",
        r"\bworst\b.{0,30}\b(?:company|service|shop|store|experience|support|ever)\b",
        r"\b(?:sue|suing) you\b|\bmy lawyer\b|\blegal action\b",
        r"\byou (?:people |guys )?(?:are |r )?(?:all )?(?:a joke|liars|thieves|idiots|useless|pathetic|incompetent)\b",
        r"\b(?:completely|absolutely|totally|utterly|bloody) (?:useless|unacceptable|ridiculous|disgusting|pathetic)\b",
        r"\b(?:stupid|useless|dumb) (?:bot|robot|machine|thing)\b",
        value="strong",
    ),
    _signal(
        "angry",
        "strong displeasure",
        r"\bunacceptable\b|\bdisgust(?:ing|ed)\b|\bfurious\b|\bfed up\b|\bpissed\b|\bso angry\b|\bhow dare\b",
        r"\bsick (?:and tired )?of (?:this|you|your|waiting)\b|\bterrible service\b|\boutrag(?:ed|eous)\b",
        r"\bwaste of (?:my )?(?:time|money)\b",
        value="strong",
    ),
    _signal(
        "angry",
        "辱骂或威胁",
        "垃圾(?:公司|服务|客服|平台|店|产品)|骗子|骗钱|骗人|坑人|黑心|去死|^滚(?:开|蛋|出去)?[!。]*$|傻[逼比叉]|他妈|妈的|什么破|气死",
        r"忍无可忍|太过分|欺人太甚|(?<!\d)12315(?!\d)|起诉|曝光你们|太差劲|差到极点|恶心",
        value="strong",
        unless="是不是$|是否$|短信是?$|邮件是?$",
    ),
    _signal(
        "angry",
        "displeased",
        r"!{3,}|\bridiculous\b|\bdisappointed\b|\bannoy(?:ed|ing)\b|\bfrustrat(?:ed|ing)\b",
        "失望|生气|不满|太慢了|无语",
        value="mild",
    ),
)

_THANKS = (
    "please|pls|thanks|thank you|thx|cheers|then|now|it'?s (?:ok|fine)|for now|that'?s (?:all|it)|i'?m (?:good|fine|ok)"
)
_CHINESE_THANKS = "吧|呀|啊|的|了|就|谢谢|多谢|谢了|麻烦了?|您|你"

_REPLY_SIGNALS = (
    _signal(
        "never_mind",
        "takes it back",
        r"(?:(?:no++|nope|ok|okay|actually|oh|ah|sorry|well|hmm)[\s,.!]+)*"
        + _said(
            "never ?mind|nvm|forget (?:it|about it|that|this)|cancel(?: that| this| it)?|stop(?: it| that)?|drop it",
            "leave it|let'?s leave it|skip (?:it|that|this)|doesn'?t matter|don'?t bother|no longer needed",
            also=_THANKS,
        ),
        whole=True,
    ),
    _signal(
        "never_mind",
        "不用了",
        r"(?:(?:哦|那|好吧|嗯)[, ]*)?"
        + _said(
            "算了|不用了|没事了?|取消吧?|不需要了|先不用了?|当我没[说问]|不问了|不查了|不弄了|没关系了?|不必了",
            also=_CHINESE_THANKS,
        ),
        whole=True,
    ),
    _signal(
        "yes",
        "agrees",
        _said(
            "yes|yeah|yea|yep|yup|sure|ok|okay|okey|k|y|please do|please|correct|right|exactly|go ahead|of course",
            "that'?s (?:right|it|fine)|do (?:it|that)|sounds good|alright|fine|great|cool|got it|i see",
            also=f"{_THANKS}|do|that would be (?:great|nice)|bring (?:them|someone) in",
        ),
        whole=True,
    ),
    _signal(
        "yes",
        "同意",
        _said(
            "嗯++|好++|好的|好吧|好呀|是|是的|对|对的|可以|行|需要|要|要的|麻烦了?|没错|请转|转吧|ok|当然|知道了|明白了?|了解",
            also=_CHINESE_THANKS,
        ),
        whole=True,
    ),
    _signal(
        "no",
        "refuses",
        _said(
            "no++|nope|nah|no thanks?|no thank you|not really|not now|n|i'?m (?:good|fine|ok)|that'?s (?:all|it)",
            "nothing(?: else)?",
            also=_THANKS,
        ),
        whole=True,
    ),
    _signal(
        "no", "不要", _said("不|不是|不用|没有|不要|不需要|不了|没有了|没了|就这些", also=_CHINESE_THANKS), whole=True
    ),
    # The same words refuse a thing and say that one has it not: what was asked decides.
    _signal("has_none", "没有", _said("没有|没有了|没了", also=_CHINESE_THANKS), whole=True),
    _signal(
        "none_of_these",
        "none of the options",
        r"(?:no[,. ]*)?(?:none|neither)(?: of (?:these|those|them|the above|that))?[\s.!]*",
        r"(?:no[,. ]*)?(?:it'?s )?something else[\s.!]*|not (?:that|those|these|any of (?:these|those|them))[\s.!]*",
        "(?:以上)?都不是[。!]*|都不对[。!]*|不是这些[。!]*|两个都不是[。!]*|其他的?[。!]*|别的(?:问题)?[。!]*",
        whole=True,
    ),
)

_FOLLOW_UP_SIGNALS = (
    _signal(
        "follow_up",
        "begins as a continuation",
        r"(?:and|but|so|or|also|then|ok(?:ay)? (?:and|but|so))\b.{1,60}|(?:what|how) (?:about|if)\b.{1,70}",
        r"(?:for|to|in|with|on|at|from|even)\s.{1,40}\?\s*",
        whole=True,
    ),
    _signal(
        "follow_up",
        "leans on what was said",
        r"(?=(?:\W*+\w++){1,10}\W*$)"
        r".*\b(?:it|its|that|this|they|them|their|those|these|one|ones|there|then|he|she|same)\b.*",
        whole=True,
    ),
    _signal(
        "follow_up",
        "接着问",
        "(?:那么?|然后|如果|要是|还有|而且|但是?).{1,24}|.{1,12}呢[?。]?",
        ".{0,20}(?:它|这个|那个|这种|那种|这样|那里|那边|其中|同样).{0,20}",
        whole=True,
    ),
)

LONGEST_WHOLE = 160
"""Characters up to which a message can be a signal as a whole."""

SIGNALS = (*_PERSON_SIGNALS, *_ANGER_SIGNALS, *_REPLY_SIGNALS, *_FOLLOW_UP_SIGNALS)
"""Ordered by importance; a kind is reported once, by the first pattern that finds it."""

_FACES = {"😡": "strong", "🤬": "strong", "😠": "strong", "🖕": "strong", "👎": "mild", "😤": "mild", "😞": "mild"}
_AGREEING = frozenset("👍👌🙏✅❤😊😀🙂😄🎉💯🆗")


def find_signals(text: str) -> tuple[Entity, ...]:
    """The signals of `text` as entities of score 1, whose `kind` is a SignalKind; at most one of each kind."""
    found: dict[str, Entity] = {}
    text = folded(text)
    stripped = text.strip()
    offset = text.find(stripped)
    for signal in SIGNALS:
        if signal.kind in found:
            continue
        if signal.whole:
            match = signal.pattern.fullmatch(stripped) if len(stripped) <= LONGEST_WHOLE else None
        else:
            match = signal.pattern.search(stripped)
        if match and match.group() and not (signal.unless and signal.unless.search(stripped[: match.start()])):
            start, end = offset + match.start(), offset + match.end()
            found[signal.kind] = Entity(signal.kind, signal.value, start, end, 1.0, signal.why)
    for face, value in _FACES.items():
        if face in text:
            place = text.index(face)
            found.setdefault("angry", Entity("angry", value, place, place + 1, 1.0, "face"))
    if _AGREEING.intersection(stripped) and not any(character.isalnum() for character in stripped):
        found.setdefault("yes", Entity("yes", "", offset, offset + len(stripped), 1.0, "face"))
    return tuple(found.values())


def _place(*names: str) -> re.Pattern[str]:
    before = (
        r"(?:i (?:choose|pick|mean|want) |it'?s )?(?:the )?(?:option |number |no\.? ?(?=\d)|我?(?:选择?|要(?=第)))?第?"
    )
    after = r"(?: one| option|[个项种条])?(?:,? (?:please|thanks|thank you)|吧|[,\s]*谢谢)?"
    return re.compile(rf"\W*{before}(?:{'|'.join(names)}){after}\W*", re.IGNORECASE)


_PLACES = (
    _place("1", "one", "first", "1st", "一"),
    _place("2", "two", "second", "2nd", "二"),
    _place("3", "three", "third", "3rd", "三"),
)
_LAST_PLACE = _place("last", "最后一?")


def place_named(text: str, count: int) -> int | None:
    """Which of `count` options a message names by its place ("2", "the second one", "第二个"), from 0; None if none."""
    text = folded(text)
    if _LAST_PLACE.fullmatch(text):
        return count - 1
    return next((place for place, pattern in enumerate(_PLACES[:count]) if pattern.fullmatch(text)), None)
