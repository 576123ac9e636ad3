"""One picture of a campaign, for a README or the Prefect UI: scores per iteration and the best so far."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from selfdev_core.records import Arm
from selfdev_core.report.progress import ARMS, course, valid_scores
from selfdev_core.report.words import short
from selfdev_core.result import CampaignResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS: dict[Arm, str] = {"trained": "#1f5fbf", "untrained": "#c2761b"}
_INK, _GRID = "#22252b", "#dfe2e8"


def plot_png(result: CampaignResult) -> bytes:
    """PNG, 1800 × 750 pixels. Left: search scores of valid samples per iteration with the mean of all samples (invalid
    counted as 0). Right: best search score after each evaluated program."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Names are foreign text: `$` must not start mathematics.
    with rc_context({"text.parse_math": False, "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"]}):
        figure = Figure(figsize=(12, 5), dpi=150, facecolor="white", layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1))
        figure.suptitle(short(result.name, 70), x=0.012, ha="left", fontsize=15, fontweight="bold", color=_INK)
        _scores(left, result)
        _best(right, result)
        handles, labels = left.get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="upper right", ncols=len(handles), frameon=False, fontsize=11)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _scores(axes: Axes, result: CampaignResult) -> None:
    _dress(axes, "Programs drawn (box: valid ones; ◆ mean of all, invalid as 0)", "iteration")
    shift: dict[Arm, float] = {"untrained": -0.17, "trained": 0.17}
    for arm in ARMS:
        items = sorted((r for r in result.iterations if r.arm == arm), key=lambda r: r.iteration)
        drawn = [(r.iteration + shift[arm], [100 * s for s in valid_scores(r)]) for r in items]
        drawn = [(place, scores) for place, scores in drawn if scores]
        if drawn:
            axes.boxplot(
                [scores for _, scores in drawn],
                positions=[place for place, _ in drawn],
                widths=0.26,
                patch_artist=True,
                manage_ticks=False,
                boxprops={"facecolor": f"{_COLOURS[arm]}40", "edgecolor": _COLOURS[arm]},
                medianprops={"color": _COLOURS[arm], "linewidth": 2},
                whiskerprops={"color": _COLOURS[arm]},
                capprops={"color": _COLOURS[arm]},
                flierprops={
                    "marker": ".",
                    "markersize": 4,
                    "markerfacecolor": _COLOURS[arm],
                    "markeredgecolor": "none",
                },
            )
        if items:
            axes.plot(
                [r.iteration + shift[arm] for r in items],
                [100 * r.mean_score for r in items],
                color=_COLOURS[arm],
                marker="D",
                markersize=6,
                linewidth=1.6,
                label=f"{arm} factory",
            )
    if result.iterations:
        axes.set_xticks(sorted({r.iteration for r in result.iterations}))
    else:
        _nothing(axes)


def _best(axes: Axes, result: CampaignResult) -> None:
    _dress(axes, "Best search score so far", "programs evaluated")
    drawn = False
    for arm in ARMS:
        best = course(result, arm).best
        if best:
            drawn = True
            axes.step(range(1, len(best) + 1), [100 * b for b in best], where="post", color=_COLOURS[arm], lw=2.2)
    if drawn:
        for start in course(result, "trained").starts[1:]:
            axes.axvline(start + 0.5, color=_GRID, linewidth=1, zorder=0)
    else:
        _nothing(axes)


def _dress(axes: Axes, title: str, x_label: str) -> None:
    axes.set_title(title, loc="left", fontsize=12, color=_INK)
    axes.set_xlabel(x_label, color=_INK)
    axes.set_ylabel("right answers, % of search questions", color=_INK)
    axes.grid(axis="y", color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(colors=_INK, length=0)


def _nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "nothing evaluated yet", ha="center", va="center", transform=axes.transAxes, color=_INK)
