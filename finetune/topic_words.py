"""The words that tell one group of messages from the others, and a name made of them.

Owns words (English and other spaced scripts, Chinese), class-based TF-IDF, names, and vectors made of words for texts
that the encoder cannot read. Knows nothing about how messages were grouped.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache

import numpy as np

from finetune.calibrate import Floats, Integers
from finetune.clusters import SAMPLE, sampled
from finetune.examples import MAX_INTENT

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_RUN = re.compile(rf"[{_UNSPACED}]+|(?<!\d)[^\W\d_{_UNSPACED}]+(?:['’][^\W\d_{_UNSPACED}]+)*")
_CHARACTER = re.compile(rf"[{_UNSPACED}]")
_MASKED = re.compile(r"\[[a-z_ ]+[ \d]*\]")
"""What masking left of personal data: it tells nothing about the topic."""

_STOP = """
hi hello hey thanks thank please pls plz ok okay yes yeah dear sir madam team want wanted need needed know like got get
getting gotten im ive id dont doesnt didnt cant couldnt wont isnt arent wasnt havent hasnt youre youve weve theyre
theyve hes shes thats whats theres just really does did doing tell say said let help possible way thing things right
sure still am pm ur gonna wanna lol hmm
"""
_TOPICS = """
amount bill bottom call cry detail empty fill find fire front full interest mill move name side system top
"""
"""Words that scikit-learn's list of English stop words holds though customers ask about them."""
_CHINESE_STOP = """
什么 怎么 怎样 怎么办 怎么样 如何 可以 可不可以 能不能 请问 你们 我们 他们 这个 那个 这些 那些 哪里 哪个 哪些 一个
一下 一直 现在 已经 还是 还有 没有 是否 是不是 有没有 多少 为什么 为何 需要 知道 想要 但是 因为 如果 或者 然后 就是
不是 不能 可能 应该 时候 多久 谢谢 你好 您好
"""

SHARE = 0.25
"""Of a group's messages a word of its name must be in: a rare word tells a group from others, not what it is about."""
WORDS_IN_NAME = 3
AXES = 200


def unspaced(text: str) -> bool:
    """Whether most letters belong to scripts written without blanks, which the default encoder cannot read."""
    return 2 * len(_CHARACTER.findall(text)) > sum(c.isalpha() for c in text)


def words(text: str) -> list[str]:
    """The words that carry content, in order: lower case, without accents and plural s; Chinese ones by rjieba."""
    found = []
    for run in _RUN.findall(_MASKED.sub(" ", text.lower())):
        if _CHARACTER.match(run):
            found += [word for word in _cut(run) if len(word) > 1 and word not in _stop_words()]
        else:
            plain = "".join(c for c in unicodedata.normalize("NFKD", run) if c.isalnum())
            # "where's" is told from "where" only after its end is off.
            if len(plain) > 1 and _stop_words().isdisjoint((plain, _singular(plain))):
                found.append(_singular(plain))
    return found


def _cut(run: str) -> list[str]:
    import rjieba

    return list(rjieba.cut(run))


@cache
def _stop_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset((ENGLISH_STOP_WORDS - set(_TOPICS.split())) | {*_STOP.split(), *_CHINESE_STOP.split()})


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def class_tf_idf(groups: Sequence[Counter[str]]) -> list[dict[str, float]]:
    """How much each word tells of each group: its share of the group's words times log(1 + A / f).

    A is the mean number of words of a group, f how often the word is in all of them: c-TF-IDF of BERTopic (Grootendorst
    2022, arXiv 2203.05794).
    """
    everywhere: Counter[str] = Counter()
    for group in groups:
        everywhere.update(group)
    mean = everywhere.total() / max(1, len(groups))
    return [
        {word: count / group.total() * float(np.log1p(mean / everywhere[word])) for word, count in group.items()}
        for group in groups
    ]


def names(groups: Sequence[Sequence[str]], others: Sequence[str], taken: Collection[str]) -> list[str]:
    """A name for each group of messages, none of them in `taken`; `others` are messages of no group."""
    split = [[words(text) for text in group] for group in groups]
    counts = [Counter(word for message in group for word in message) for group in split]
    counts.append(Counter(word for text in others for word in words(text)))
    used = set(taken)
    found = []
    for group, weights in zip(split, class_tf_idf(counts), strict=False):
        name = _new(_telling(group, weights), used)
        used.add(name)
        found.append(name)
    return found


def _telling(group: Sequence[Sequence[str]], weights: dict[str, float]) -> tuple[list[tuple[str, float]], int]:
    """Words by weight, each with its mean place in a message, one form of each; and how many belong in a name.

    Those are the words in SHARE of the messages, which stand first, and two at least: "card" alone names nothing.
    """
    within = Counter(word for message in group for word in set(message))
    order = sorted(weights, key=lambda word: (within[word] < SHARE * len(group), -weights[word], word))
    chosen: list[str] = []
    for word in order:
        if not any(_same(word, before) for before in chosen):
            chosen.append(word)
        if len(chosen) == 2 * WORDS_IN_NAME:
            break
    common = sum(within[word] >= SHARE * len(group) for word in chosen)
    places = {word: [m.index(word) / len(m) for m in group if word in m] for word in chosen}
    return [(word, float(np.mean(places[word]))) for word in chosen], min(max(common, 2), WORDS_IN_NAME)


def _same(word: str, other: str) -> bool:
    """Whether both look like forms of one word: "refund", "refunded", "refunding"."""
    short = min(len(word), len(other), 5)
    return word[:short] == other[:short] if short > 3 else word == other


def _new(telling: tuple[list[tuple[str, float]], int], used: Collection[str]) -> str:
    """The words of the name in the order of the messages; one more where that name is taken, then a number."""
    ranked, count = telling
    name = "topic"
    for length in (count, count + 1):
        chosen = sorted(ranked[:length], key=lambda word: word[1])
        name = "_".join(word for word, _ in chosen)[: MAX_INTENT - 5] or name
        if name not in used:
            return name
    number = 2
    while f"{name}_{number}" in used:
        number += 1
    return f"{name}_{number}"


class WordVectors:
    """Unit vectors `[n, d]` of texts by their words and characters, for what the encoder cannot read; made when asked.

    TF-IDF reduced to its main axes (latent semantic analysis, Deerwester et al. 1990), learnt from a sample.
    """

    def __init__(self, texts: Sequence[str], seed: int) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._texts = texts
        self._counts = TfidfVectorizer(analyzer=_terms, sublinear_tf=True, dtype=np.float32)
        counts = self._counts.fit_transform([texts[i] for i in sampled(len(texts), SAMPLE, seed)])
        self._axes = TruncatedSVD(min(AXES, *counts.shape), random_state=seed).fit(counts)

    def __getitem__(self, rows: Integers) -> Floats:
        from sklearn.preprocessing import normalize

        counts = self._counts.transform([self._texts[i] for i in rows])
        return np.asarray(normalize(self._axes.transform(counts)), np.float32)


def _terms(text: str) -> list[str]:
    """Words and single characters; any text has at least one."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return [term for run in _RUN.findall(folded) for term in (*_cut(run), *run)] or [folded or " "]
