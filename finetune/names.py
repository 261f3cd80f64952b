"""Names of people in what customers and agents write, English and Chinese.

Owns the cues that introduce a name ("my name is", "Regards,", 我叫) and the lists behind them. A name is found by its
cue or because an export names the party, never by its look alone: "Ember" may be a product. Knows nothing of numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

Place = tuple[int, int]
"""Start and end of a name in its text."""

_CUE_WORDS = re.compile(
    r"\b(?:name|dear|hi|hello|hey|morning|afternoon|evening|i'?m|i am|this is|here is|speaking|spoke|ask|talk|talked"
    r"|tell|call me"
    r"|mr|mrs|ms|mx|dr|prof|regards|wishes|cheers|sincerely|yours|thanks|thank you|thx|love|best|greetings|signed"
    r"|registered to)\b",
    re.IGNORECASE,
)
"""One look that spares most messages the others."""

# -------------------------------------------------------------------------------------------------------- lists

_GIVEN_NAMES = """
aaron abby abdul abigail adam adrian ahmed aisha alan albert alejandro alex alexander alexandra alfred ali alice
alicia alina alison amanda amara amelia amir amit amy ana anastasia anders andre andrea andreas andrew andy angela
anita anja ann anna anne annie anton antonio aria arjun arthur astrid audrey ava barbara bart beatrice ben benjamin
bernard beth betty bianca bob boris brandon brenda brian bruno camila carla carlos carmen carol caroline catherine
cecilia charles charlotte chen chiara chloe chris christian christina christopher clara claire claudia colin connor
craig cristina cynthia daniel daniela danielle dave david deborah denise dennis derek diana diego dimitri dmitri
dominic donald donna dorothy douglas duncan dylan eddie edith eduardo edward eileen elena eleanor eli elif elijah
elisa elizabeth ella ellen elsa emil emilia emily emma eric erica erik erin ethan eva evan evelyn fabian farah
fatima felix fernanda fernando fiona florian francesca francisco fred freya gabriel gareth gary gavin geoff george
georgia gerald gina giovanni giulia gloria gonzalo gordon greg gregory greta gustav hamza hana hannah hans harriet
harry hassan heather hector heidi helen helena henrik henry hiroshi holly howard hugh hugo ian ibrahim ingrid irene
irina isaac isabel isabella ivan jacob jacqueline jake jakob james jamie jan jana jane janet jasmine jason javier
jean jeff jeffrey jelena jennifer jenny jeremy jessica jim joan joanna joao joe johan johanna john johnny jon jonas
jonathan jorge jose josef joseph joshua juan judith julia julian julie jun justin kamal karen karim karin karl kate
katherine kathleen katie kayla keiko keith kelly ken kenji kenneth kevin khalid kim kirsten klaus kofi kristina
kumar kyle lars laura lauren laurent layla lea leah lena leo leon leonardo lewis liam lily linda lisa liv lorenzo
louis louise luca lucas lucia lucy luis lukas luke lydia maddie magnus malik manuel marc marcel marco marcus
margaret maria mariam marie marina mario marion marta martha martin martina mary mateo matilda matt matteo matthew
maurice maya megan mehmet mei melanie melissa mia michael michelle miguel mike mila milan mina miriam mohamed
mohammed molly monica monika muhammad murat nadia naomi natalia natalie natasha nathan neil nicholas nick nicola
nicole nikolai nina noah nora norman ole oleg olga oliver olivia omar oscar otto owen pablo pamela paolo patricia
patrick paul paula paulina pavel pedro peter petra phil philip pia pierre priya rachel rahul ralph ramon raquel
rashid raul ravi rebecca renata ricardo richard rob robert roberto robin rodrigo roger roland roman ron rosa rosie
ruth ryan sabine sally sam samantha samir samuel sandra sanjay sara sarah sasha scott sean sebastian sergei shane
sharon shirley silvia simon simone sofia sonia sophia sophie stefan stella stephanie stephen steve steven stuart
sunil susan suzanne sven sylvia tamara tanja tara tariq tatiana ted teresa thea theo theodore theresa thomas tim
timothy tina tobias tom tomas tommy tony tracy tyler ursula valentina valeria vanessa vera veronica victor victoria
vijay viktor vincent virginia vivian vladimir walter wanda wayne wei wendy werner wesley william wolfgang xavier
yasmin yolanda yuki yusuf yvonne zach zachary zainab zoe
"""
_GIVEN = frozenset(_GIVEN_NAMES.split())
"""Given names common in English-speaking support queues: a weak cue such as "I'm" or "this is" needs one."""

_NOT_NAMES = """
monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september
october november december american australian austrian belgian brazilian british canadian chinese czech danish dutch
english european finnish french german greek hungarian indian irish italian japanese korean mexican norwegian polish
portuguese romanian russian scottish spanish swedish swiss turkish ukrainian welsh sir madam ma'am team support
customer customers service services all everyone everybody anyone friend friends guys folks there again you god
goodness much lord colleague colleagues agent bot sales staff shop store company help desk care great good fine
perfect awesome excellent sorry not very so too just also still really ok okay yes no well see will what when where
why who how is are was the a an this that these those it its i i'm my your our his her their we they he she and or
but if then so as at by for from in of on to with about after before over up out off please thanks thank hi hello
dear regards best kind cheers christmas easter new now today tomorrow yesterday spelled spelt misspelled wrong
incorrect correct missing printed written different same listed shown showing too long short never always already
only valued hiring order orders account card bye goodbye welcome sure nice cool wow super absolutely right done
later mate man dude buddy kindly anyway lol miss
"""
_NO_NAME = frozenset(_NOT_NAMES.split())

_WORDS_TOO = """
will may mark grace rose hope joy bill frank rich jack art summer april june august black brown white green grey
gray young long short king price page day case best good sunny lane street field wood woods stone rivers hill hills
baker cook fisher hunter mason miller porter carter bush banks bond chase drew faith grant guy iris ivy jade jay lee
max miles norm pat penny pearl ray rod ruby sandy skip sue tent trip violet wade ward wells west north east south
winter major christian dean duke earl gene glen hazel heath herb holly jewel ken lance lily mercy misty olive paris
pierce reed robin rocky rusty sage sky star sterling storm van victor wolf
"""
_ALSO_WORDS = frozenset(_WORDS_TOO.split())
"""Parts of names that are words as well: masked only in a whole name or behind a cue."""

_ROLES = re.compile(
    r"\b(?:support|team|desk|bot|service|services|help|helpdesk|sales|info|admin|administrator|customer|care|operator|system"
    r"|noreply|no-reply|unknown|deleted|user|guest|anonymous|visitor|agent|staff|shop|store|inc|ltd|gmbh|llc)\b|客服|系统|用户|机器人",
    re.IGNORECASE,
)

_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖"
    "贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔汤赖常温康施文牛樊葛邢安齐易乔伍庞颜倪庄聂章鲁岳翟殷"
    "詹申欧耿关兰焦俞左柳甘祝包宁尚符舒阮柯纪梅童凌毕单季裴霍涂成苗谷盛曲翁冉骆蓝路游辛靳柴蒙鲍华喻祁蒲房滕屈饶解牟艾尤阳穆农"
    "司卓古吉缪简车项连芦麦褚娄窦戚岑景党宫费卜冷晏席卫米柏宗瞿桂佟臧闵苟邬边卞姬师仇栾隋商刁沙荣巫寇桑郎甄丛仲虞敖巩明佘池"
    "麻苑迟邝"
)
"""The commonest first, some three hundred; many are words as well, so a cue must stand before any of them."""
_COMMON_SURNAMES = _SURNAMES[:90]
_COMPOUND = "欧阳|司马|上官|诸葛|司徒|东方|夏侯|皇甫|尉迟|公孙|慕容|令狐|长孙|宇文|端木|南宫|独孤"
_CJK = "\u3400-\u9fff"
_HAS_CJK = re.compile(f"[{_CJK}]")
_NO_GIVEN = "的是在有和与要想来去上下昨今前刚买订问不没会可能为您你我他她它这那很也就都吗呢吧啊了个先女小老们说到"
"""Characters that begin the next word rather than end a given name."""
_NO_END = ("人", "员", "者", "户", "卡", "级", "店", "金")
"""我是江苏人, 我是金卡: what ends so is no name."""

# ------------------------------------------------------------------------------------------------------ English

_CAP = r"[A-ZÀ-ÖØ-ÞĀ-Ž][\w'’-]*[\w]|[A-ZÀ-ÖØ-Þ]\."
_LINKS = frozenset(("de", "da", "del", "della", "van", "von", "der", "den", "ter", "la", "le", "bin", "al", "el"))
_LINK = rf"(?:(?:{'|'.join(sorted(_LINKS))})\s+){{0,2}}"
_NAME = rf"(?P<name>{_LINK}(?:{_CAP})(?:[ ]{_LINK}(?:{_CAP})){{0,2}})"
_TWO = rf"(?P<name>(?:{_CAP})(?:[ ]{_LINK}(?:{_CAP})){{1,2}})"
_ONE = rf"(?P<name>{_CAP})"
_TITLE = r"(?:[Mm]r|[Mm]rs|[Mm]s|[Mm]x|[Dd]r|[Pp]rof)\b\.?\s"
_GOES_ON = r"(?=\s?(?:[.,!;:()，。！-]|$|\n)|\s(?:from|here|again|and|calling|writing|speaking|with|at|in|on|about)\b)"

_CUED = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        rf"(?i:\bmy (?:full |first |last )?name(?:'s|’s| is|:)\s+){_NAME}",
        rf"(?i:\b(?:in|under|by) the name(?: of)?\s+|\bregistered to\s+|\bcall me\s+|\bsigned by\s+){_NAME}",
        rf"(?i:(?:^|[\s,;])(?:full |first |last |customer |contact )?name\s*[:：]\s*){_NAME}",
        rf"\b(?P<name>{_TITLE}(?:{_CAP})(?:[ ](?:{_CAP}))?)",
        rf"(?i:\bdear\s+){_NAME}(?=\s*(?:[,!:;.，]|$))",
        rf"(?i:\b(?:i'?m|i am|this is|here is|it'?s|(?:spoke|talk(?:ed)?|speaking) (?:to|with)|ask for|tell))\s+"
        rf"{_TWO}{_GOES_ON}",
        rf"(?i:\b(?:i'?m|i am|this is))\s+{_ONE}(?=\s+(?:from|speaking|calling)\b)",
    )
)
_SIGNED = re.compile(
    r"(?i:(?:^|[.!?,;]\s+|\n)(?:(?:kind|best|warm|warmest|many|with)\s+){0,2}"
    r"(?:regards|wishes|cheers|sincerely|yours(?: truly| sincerely| faithfully)?|thanks(?: again)?|thank you|thx|love"
    r"|best|greetings))"
    rf" {{0,3}}[,.!\n]\s{{0,3}}[-–—~]? {{0,3}}{_NAME}\s{{0,3}}[.!]?$"
)
_LAST_LINE = re.compile(rf"\n {{0,3}}[-–—~]? {{0,3}}{_NAME}\.?$")
_WEAK = re.compile(
    rf"(?i:\b(?:i'?m|i am|this is|here is|it'?s|thanks|thank you|cheers|hi|hello|hey|good (?:morning|afternoon|evening)"
    rf"|ask for|(?:spoke|talk(?:ed)?|speaking) (?:to|with)))[ ,]+{_ONE}{_GOES_ON}"
)
_LOWER = re.compile(
    r"(?i:\bmy (?:full |first )?name(?:'s|’s| is))\s+"
    r"(?P<name>[a-zà-ÿ]{2,15}(?: [a-zà-ÿ]{2,15}(?=\s?(?:[,.;!]|$|\n)))?)\b"
)
_DETAILS_OF = re.compile(rf"(?:.*:\s)?{_TWO}\s?[,;|/]?\s?")
"""A name before a number or address on its line, as people give their details."""

# ------------------------------------------------------------------------------------------------------ Chinese

_FULL_NAME = rf"(?:(?:{_COMPOUND})[{_CJK}]{{1,2}}|[{_SURNAMES}][{_CJK}]{{1,2}})"
_HONORIFIC = "(?:先生|女士|小姐|太太|老师|同学|师傅)"
_CHINESE = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:我叫|我的名字[是叫]|名字[是叫]|姓名|收件人|收货人|联系人|寄件人|户名|叫我|本人)[是为叫:：\s]*(?P<name>{_FULL_NAME})",
        rf"我叫(?P<name>[{_CJK}]{{2,4}}|[A-Z][A-Za-z]+(?: [A-Z][A-Za-z]+)?)(?![{_CJK}A-Za-z])",
        rf"我是(?P<name>(?:{_COMPOUND}|[{_COMMON_SURNAMES}])[{_CJK}]{{1,2}})(?![{_CJK}])",
        rf"(?:我|免贵|您)姓(?P<name>{_COMPOUND}|[{_SURNAMES}])",
        rf"(?:客服|专员|顾问|主管|助理|店长|[组部]的|我是|我叫|叫我)(?P<name>[小老阿][{_COMMON_SURNAMES}])(?![{_CJK}])",
        rf"(?<![{_CJK}])(?P<name>(?:{_COMPOUND}|[{_SURNAMES}])[{_CJK}]{{0,2}}?{_HONORIFIC})",
        rf"(?:我是|我叫|转告|联系|告诉|通知|麻烦|请|找|给|叫|和|让)(?P<name>(?:{_COMPOUND}|[{_SURNAMES}])[{_CJK}]{{0,2}}?{_HONORIFIC})",
        rf"(?P<name>(?:{_COMPOUND}|[{_COMMON_SURNAMES}]){_HONORIFIC})",
    )
)


def find_names(text: str, parties: re.Pattern[str] | None, before: Iterable[int] = ()) -> Iterator[Place]:
    """Places of names in `text`: those of `parties`, and those behind a cue; places may overlap.

    `before` are the starts of other personal values: "Ann Berg, +47 ..." names a person.
    """
    if parties is not None:
        yield from (match.span() for match in parties.finditer(text))
    if _CUE_WORDS.search(text):
        yield from _cued(text)
    if "\n" in text:
        yield from _called(_LAST_LINE, text)
    for start in before:
        line = text.rfind("\n", 0, start) + 1
        details = _DETAILS_OF.fullmatch(text, line, start) if start - line < 100 else None
        if details and _NO_NAME.isdisjoint(details["name"].casefold().split()):
            yield details.span("name")
    if _HAS_CJK.search(text):
        for match in (match for pattern in _CHINESE for match in pattern.finditer(text)):
            if not match["name"].endswith(_NO_END):
                yield _without_tail(match)


def _cued(text: str) -> Iterator[Place]:
    if not text.islower():
        for pattern in (*_CUED, _SIGNED):
            yield from _people(pattern, text)
        yield from _called(_WEAK, text)
    for match in _LOWER.finditer(text):
        words = match["name"].split()
        if _NO_NAME.isdisjoint(words) and _LINKS.isdisjoint(words) and not words[0].endswith(("ed", "ing")):
            yield match.span("name")


def _people(pattern: re.Pattern[str], text: str) -> Iterator[Place]:
    for match in pattern.finditer(text):
        words = re.sub(rf"^{_TITLE}", "", match["name"]).casefold().replace("’", "'").split()
        if words and not any(word.removesuffix("'s") in _NO_NAME for word in words):
            start, end = match.span("name")
            yield start, end - 2 * match["name"].endswith(("'s", "’s"))


def _called(pattern: re.Pattern[str], text: str) -> Iterator[Place]:
    """Names behind a weak cue: their first word must be a known given name."""
    for match in pattern.finditer(text):
        if match["name"].casefold().split()[0] in _GIVEN:
            yield match.span("name")


def _without_tail(match: re.Match[str]) -> Place:
    """A Chinese name without the first character of the next word: 我叫李娜想问一下."""
    start, end = match.span("name")
    name = match["name"]
    if re.search(rf"{_HONORIFIC}$", name) is None and len(name) > 2 and name[-1] in _NO_GIVEN:
        end -= 1
    return start, end


def party_pattern(names: Sequence[str]) -> re.Pattern[str] | None:
    """What finds the names of a conversation's parties, whole and in parts; None when there is nothing to look for.

    A party called after a role ("Acme Support") is no person, and its name may be the company's. A name that begins
    with @ is a handle.
    """
    found: set[str] = set()
    for name in names:
        whole = re.sub(rf"^{_TITLE}", "", " ".join(name.split()))
        if not 2 <= len(whole) <= 80 or _ROLES.search(whole) or not any(c.isalpha() for c in whole):
            continue
        if re.search(rf"[{_CJK}]", whole):
            found.update(part for part in (whole, *_chinese_parts(whole)) if len(part) > 1)
            continue
        parts = whole.split()
        if len(parts) > 1 or whole.startswith("@"):
            found.add(whole)
        found.update(
            part
            for part in parts
            if len(part) > 1 and part[0].isalpha() and part.casefold() not in _ALSO_WORDS | _NO_NAME
        )
    if not found:
        return None
    ordered = sorted(found, key=lambda part: (-len(part), part))
    return re.compile("|".join(_literal(part) for part in ordered))


def _literal(part: str) -> str:
    """Whole words only; a name of several words in any letter case, a single one capitalised or as it was given."""
    if re.search(rf"[{_CJK}]", part):
        return re.escape(part)
    if part.startswith("@"):
        return rf"(?i:{re.escape(part)}(?!\w))"
    if " " in part:
        return rf"(?i:(?<!\w){re.escape(part)}(?!\w))"
    spellings = sorted({part, part.capitalize(), part.upper()}, key=lambda one: (-len(one), one))
    return rf"(?<!\w)(?:{'|'.join(map(re.escape, spellings))})(?!\w)"


def _chinese_parts(name: str) -> Iterator[str]:
    bare = re.sub(rf"{_HONORIFIC}$", "", name)
    yield bare
    surname = re.match(_COMPOUND, bare)
    given = bare[surname.end() :] if surname else bare[1:]
    if 3 <= len(bare) <= 4 and len(given) == 2:
        yield given


def same_person(one: str, other: str) -> bool:
    """Whether one name may be the other, shorter: "Ann" or "Mr. Berg" for "Ann Berg", 王先生 for 王小明."""
    one, other = sorted((bare_name(one), bare_name(other)), key=len)
    if re.search(rf"[{_CJK}]", other):
        return other.startswith(one) or other.endswith(one)
    return set(one.split()) <= set(other.split())


def bare_name(name: str) -> str:
    return re.sub(rf"{_HONORIFIC}$", "", re.sub(rf"^{_TITLE}", "", name)).casefold()
