"""What the plots of the pages have in common: numbers on every axis, legends beside the data, names as they are."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.font_manager import fontManager
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by colour-blind people (Okabe and Ito 2008, Color Universal Design)."""

LINES = ("-", "--", ":", "-.")
"""The second way to tell curves apart."""

FONTS = [
    "DejaVu Sans",
    *sorted(
        {
            font.name
            for font in fontManager.ttflist
            if any(part in font.name for part in ("Sans CJK", "WenQuanYi", "YaHei", "Hiragino"))
        }
    ),
]
"""For names of classes: matplotlib's own, then what the machine has for Chinese, Japanese and Korean."""

MOST_CHARACTERS = 32


def style(i: int) -> dict[str, str]:
    """Colour and line of curve i; 28 pairs."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[(i + i // len(COLOURS) // len(LINES)) % len(LINES)]}


def plain(text: str) -> str:
    """Return text that matplotlib shows as it is, on one line: no mathematics between dollar signs, shortened in the middle.

    Example:
        >>> plain("$x$ and\\ny")
        '\\\\$x\\\\$ and y'
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(text) > MOST_CHARACTERS:
        text = f"{text[: MOST_CHARACTERS - 13]}...{text[-10:]}"
    return text.replace("$", r"\$")


def finish(axes: plt.Axes, *, title: str, x: str, y: str) -> None:
    """Title, names of the axes, a light grid."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def log_numbers(axis) -> None:
    """Plain numbers on a logarithmic axis: at 1, 2 and 5 of each decade, or evenly spaced where it spans less than one."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5), numticks=12) if high >= 10 * low else MaxNLocator(5))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def legend_beside(figure: plt.Figure, lines: Sequence, names: Sequence[str]) -> None:
    """A legend right of the plots, over no data; names may begin with an underscore."""
    if lines:
        box = figure.legend(
            lines, [str(i) for i in range(len(lines))], loc="outside right upper", fontsize=8, frameon=False
        )
        for text, name in zip(box.get_texts(), names, strict=True):
            text.set_text(plain(name))
            text.set_fontfamily(FONTS)


def say(axes: plt.Axes, text: str) -> None:
    """In the place of data that are not there."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=9, color="0.4")
