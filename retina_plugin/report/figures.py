"""Shared parts of the pages' plots: numbers on every axis, legends next to the data, names without interpretation."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axis import Axis
from matplotlib.font_manager import fontManager
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that colour-blind people can distinguish (Okabe and Ito 2008, Color Universal Design)."""

LINES = ("-", "--", ":", "-.")
"""Line styles, the second way to distinguish curves."""

CJK_FONTS = ("Sans CJK", "WenQuanYi", "YaHei", "Hiragino")
"""Parts of the names of fonts for Chinese, Japanese and Korean."""

_INSTALLED = {font.name for font in fontManager.ttflist}
FONTS = ["DejaVu Sans", *sorted(name for name in _INSTALLED if any(part in name for part in CJK_FONTS))]
"""Fonts for names of classes: matplotlib's own, then those installed for Chinese, Japanese and Korean."""

MOST_CHARACTERS = 32
"""Maximum length of a name in a plot."""


def style(i: int) -> dict[str, Any]:
    """Return the colour and line style of curve i as keyword arguments of ``plot``; 28 pairs differ."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[(i + i // len(COLOURS) // len(LINES)) % len(LINES)]}


def plain(text: str) -> str:
    r"""Return text that matplotlib shows literally: on one line, shortened in the middle, dollar signs escaped.

    Example:
        >>> plain("$x$ and\ny")
        '\\$x\\$ and y'
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(text) > MOST_CHARACTERS:
        text = f"{text[: MOST_CHARACTERS - 13]}...{text[-10:]}"
    return text.replace("$", r"\$")


def finish(axes: plt.Axes, *, title: str, x: str, y: str) -> None:
    """Set the title and the names of the axes, and draw a light grid."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def integer_ticks(axes: plt.Axes) -> None:
    """Put the ticks of the x axis at integers."""
    locator = axes.xaxis.get_major_locator()
    assert isinstance(locator, MaxNLocator), "the default of a linear axis"
    locator.set_params(integer=True)


def log_numbers(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2 and 5 of each decade, or evenly if it spans less than one decade."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5), numticks=12) if high >= 10 * low else MaxNLocator(5))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def legend_beside(figure: plt.Figure, lines: Sequence, names: Sequence[str]) -> None:
    """Add a legend to the right of the plots; names may start with an underscore, which matplotlib would hide."""
    if lines:
        numbers = [str(i) for i in range(len(lines))]
        box = figure.legend(lines, numbers, loc="outside right upper", fontsize=8, frameon=False)
        for text, name in zip(box.get_texts(), names, strict=True):
            text.set_text(plain(name))
            text.set_fontfamily(FONTS)


def say(axes: plt.Axes, text: str) -> None:
    """Write a text in the centre of axes that have no data."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=9, color="0.4")
