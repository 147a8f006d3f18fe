"""Numbers on every axis, names without interpretation, legends next to the data."""

import warnings

import matplotlib.pyplot as plt
import pytest

from retina_plugin.report.figures import (
    MOST_CHARACTERS,
    finish,
    integer_ticks,
    legend_beside,
    log_numbers,
    plain,
    style,
)


@pytest.fixture()
def axes():
    figure, axes = plt.subplots(layout="constrained")
    yield axes
    plt.close(figure)


@pytest.mark.parametrize("values", [[0.54, 0.6], [0.4, 1.6], [0.01, 50], [1e-5, 1e4], [0.7, 0.7]])
def test_logarithmic_axis_has_at_least_two_numbers(axes, values):
    axes.plot(values)
    axes.set_yscale("log")
    log_numbers(axes.yaxis)
    axes.figure.canvas.draw()
    low, high = axes.get_ylim()
    shown = [text.get_text() for text in axes.get_yticklabels() if low <= text.get_position()[1] <= high]
    assert len([text for text in shown if text]) >= 2 and not any("$" in text for text in shown)
    assert [float(text) for text in shown] == sorted({float(text) for text in shown}), "all different"


def test_integer_ticks(axes):
    axes.plot([0, 2.5], [0, 1])
    integer_ticks(axes)
    assert all(tick == int(tick) for tick in axes.get_xticks())


@pytest.mark.parametrize("name", ["$x_1$", "$", "a $$ b", r"\frac{1}{2}$$", r"\$", "no mathematics"])
def test_names_with_dollar_signs_are_shown_literally(axes, name):
    text = axes.text(0, 0, plain(name))
    assert text._preprocess_math(text.get_text()) == (name, False)


def test_long_names_and_line_breaks_become_one_short_line():
    assert plain("a\nb\tc") == "a b c" and len(plain("x" * 999)) == MOST_CHARACTERS


def test_legend_has_every_name_and_covers_no_data(axes):
    names = ["_underscore", "$a$", "", "<b>", "long " * 50]
    lines = [axes.plot([0, 1], [i, i], **style(i))[0] for i in range(len(names))]
    finish(axes, title="t", x="x", y="y")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        legend_beside(axes.figure, lines, names)
        axes.figure.canvas.draw()
    box = axes.figure.legends[0]
    assert [text.get_text() for text in box.get_texts()] == [plain(name) for name in names]
    assert not box.get_window_extent().overlaps(axes.get_window_extent())


def test_28_curves_have_different_styles():
    assert len({tuple(style(i).values()) for i in range(28)}) == 28
