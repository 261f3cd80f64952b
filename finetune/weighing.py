"""What the held-out rows decide about a head: how much each reader counts, how far frequency does, how sure it is.

Owns shares, level and temperature, and calls for the score of scope. Knows nothing about how readers were fitted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from finetune.calibrate import Floats, Integers, fit_out_of_scope, fit_temperature, fit_top_temperature, log_loss
from finetune.examples import OUT_OF_SCOPE, Example
from finetune.model import SCOPE_PRIOR, SCOPE_PRIOR_CLASS, Head

SHARES = (0.45, 0.0, 0.15, 0.3, 0.6, 0.75, 0.9)
"""How much the letters may count beside the encoder; the first where no row decides."""

LEVELS = (0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
"""How much of a frequent intent's advantage is taken back, 0 none: the first where no row decides."""
LEVEL_PRIOR = 20.0
"""What a level costs as a log loss of all held-out rows together: this times its squared distance from the first."""

MANY = 500
"""Held-out rows from which the temperature suits the best label alone; of fewer, all labels of a row tell more."""


def calibrated(head: Head, rows: Floats, examples: Sequence[Example], trained: Sequence[str]) -> Head:
    """The head with the shares of its readers, its level, temperature and out-of-scope score fitted on held-out rows.

    `trained` names the class of each row it was trained on: what is frequent there is levelled in part.
    """
    numbers = {label: number for number, label in enumerate(head.inside)}
    known = [i for i, e in enumerate(examples) if e.intent == OUT_OF_SCOPE or e.intent in numbers]
    if not known:
        return head
    outside = np.array([examples[i].intent == OUT_OF_SCOPE for i in known])
    inside = [i for i in known if examples[i].intent != OUT_OF_SCOPE]
    targets = np.array([numbers[examples[i].intent or ""] for i in inside], np.int64)
    head = fit_level(fit_shares(head, rows[inside], targets), rows[inside], targets, trained)
    if len(inside) >= MANY:
        head = replace(head, temperature=fit_top_temperature(head.logits(rows[inside])[0], targets))
    prior = SCOPE_PRIOR_CLASS if OUT_OF_SCOPE in head.labels else SCOPE_PRIOR
    return replace(head, scope=fit_out_of_scope(head.signals(rows[known]), outside, prior))


def fit_shares(head: Head, rows: Floats, targets: Integers) -> Head:
    """The head with the shares of its readers, and the temperature for them, under which held-out rows surprise least.

    The letters count by one of SHARES. With a reader of conversations all three are weighed freely, the encoder by its
    weights (a logarithmic opinion pool, Genest and Zidek 1986): there is one optimum, and so many chats hold out rows
    enough for three numbers.
    """
    if head.readers(rows) < 2 or not len(targets):
        alone = SHARES if len(targets) else SHARES[:1]
        tried = [_tempered(replace(head, shares=(share,)), rows, targets) for share in alone]
        return min(tried, key=lambda one: one[0])[1]
    from scipy.optimize import minimize

    plain, letters, both = (replace(head, shares=shares).logits(rows)[0] for shares in ((), (1.0,), (1.0, 1.0)))
    parts = np.stack([plain, letters - plain, both - letters])
    found = minimize(
        lambda weights: log_loss(np.tensordot(weights, parts, 1), targets), (0.5, 0.5, 1.0), bounds=[(0.0, None)] * 3
    ).x
    encoder, *shares = map(float, found)
    scaled = replace(head, weight=head.weight * np.float32(encoder), bias=head.bias * np.float32(encoder))
    return _tempered(replace(scaled, shares=tuple(shares)), rows, targets)[1]


def fit_level(head: Head, rows: Floats, targets: Integers, trained: Sequence[str]) -> Head:
    """The head levelled so far, and the temperature for it, that held-out rows surprise least.

    All of it suits customers who ask about every intent as often, none of it those who ask as the rows do. Of few rows
    half was better than none for both, so that is what the prior holds; of many, which show what chats are about, held
    out ones say how much less.
    """
    tried = []
    for level in LEVELS if len(targets) else LEVELS[:1]:
        loss, one = _tempered(levelled(head, trained, level), rows, targets)
        tried.append((len(targets) * loss + LEVEL_PRIOR * (level - LEVELS[0]) ** 2, one))
    return min(tried, key=lambda one: one[0])[1]


def _tempered(head: Head, rows: Floats, targets: Integers) -> tuple[float, Head]:
    """The log loss of held-out rows under the head at the temperature that suits them best, and that head."""
    logits = head.logits(rows)[0]
    temperature = fit_temperature(logits, targets)
    return log_loss(logits / temperature, targets), replace(head, temperature=temperature)


def levelled(head: Head, trained: Sequence[str], level: float) -> Head:
    """The head without `level`, a share, of what classes gained from being frequent among the rows `trained`.

    Logit adjustment after training (Menon et al. 2020, arXiv 2007.07314).
    """
    counts = Counter(trained)
    places = [place for place, label in enumerate(head.labels) if label != OUT_OF_SCOPE]
    gained = np.log([counts[head.labels[place]] or 1 for place in places])
    bias = head.bias.copy()
    bias[places] -= level * head.temperature * (gained - gained.mean())
    return replace(head, bias=bias, level=level)
