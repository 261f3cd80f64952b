"""Pictures of a version: what its confidence buys, and how its training went. PNG, 800 x 500.

Owns the drawing. Knows nothing about models, rows or files: numbers come in, bytes go out, the same for the same
numbers. matplotlib is used without pyplot, so nothing of it outlives a call.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from finetune.metrics import RiskCurve, coverage_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATES = (0.01, 0.02, 0.05)
"""Error rates whose coverage is pointed out."""
BLUE, ORANGE, GREY = "#1f5fa8", "#c8641b", "#6b7280"


def risk_coverage_png(curve: RiskCurve, title: str) -> bytes:
    """How many of the intents said are wrong (%) over how many questions are given one (%), the surest first."""
    figure = _figure()
    axes = figure.add_subplot()
    # Of the very first answers one mistake is 100 %: no scale for the rest.
    steady = curve.error[curve.coverage >= 0.05]
    top = 100 * max(0.02, 1.15 * float(steady.max(initial=0.0)))
    axes.step(100 * curve.coverage, 100 * curve.error, where="post", color=BLUE, linewidth=1.8)
    said = []
    for rate in RATES:
        point = coverage_at(curve, rate)
        said.append(f"{100 * point.coverage:.1f} % answered with at most {100 * rate:.0f} % wrong")
        if point.confidence is not None:
            axes.plot([100 * point.coverage], [100 * point.error], "o", color=ORANGE, markersize=6, clip_on=False)
    axes.text(
        0.02,
        0.97,
        "\n".join(said),
        transform=axes.transAxes,
        verticalalignment="top",
        linespacing=1.5,
        bbox={"facecolor": "white", "edgecolor": "#e5e7eb", "boxstyle": "round,pad=0.5"},
    )
    axes.set_xlim(0, 101)
    axes.set_ylim(0, top)
    _label(axes, "questions answered with an intent, the surest first (%)", "wrong among the answers (%)")
    axes.set_title(title, loc="left")
    return _png(figure)


def training_png(
    steps: Sequence[int],
    loss: Sequence[float],
    accuracy: Sequence[float],
    learning_rate: Sequence[float],
    title: str,
) -> bytes:
    """Loss, accuracy on the training batches (shares, shown in %) and learning rate over the steps.

    Batches differ, so a mean over a twentieth of the steps runs over what each one gave.
    """
    figure = _figure()
    above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.4))
    for axes, values, colour in ((above, loss, BLUE), (middle, [100 * share for share in accuracy], ORANGE)):
        axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
        axes.plot(steps, _running_mean(values), color=colour, linewidth=1.8)
    below.plot(steps, learning_rate, color=GREY, linewidth=1.6)
    above.set_ylim(bottom=0)
    middle.set_ylim(0, 102)
    below.set_ylim(bottom=0)
    below.ticklabel_format(axis="y", style="sci", scilimits=(-3, -3), useMathText=True)
    _label(above, "", "loss")
    _label(middle, "", "accuracy (%)")
    _label(below, "step", "learning\nrate")
    above.set_title(title, loc="left")
    figure.align_ylabels()
    return _png(figure)


def _running_mean(values: Sequence[float]) -> list[float]:
    reach = max(1, len(values) // 40)
    parts = (values[max(0, n - reach) : n + reach + 1] for n in range(len(values)))
    return [sum(part) / len(part) for part in parts]


def _figure() -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # The name and version of matplotlib would make equal pictures differ.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
