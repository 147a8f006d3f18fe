"""The imbalance example in numbers, the curves worked by hand, and p_t of a real model."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from support import make_inputs, tiny_cfg

from detectron2.modeling import build_model

from retina_plugin.analysis.focal_loss import (
    collect_p_t,
    cumulative_share,
    draw_figure_1,
    draw_figure_4,
    focal_loss,
    imbalance_example,
)


def test_imbalance_of_one_foreground_and_a_hundred_backgrounds():
    text = imbalance_example()
    # cross entropy: -log10(0.8) = 0.09691001 and -100 log10(0.99) = 0.43648054; together 0.53339055
    assert "| cross entropy | 0.09691001 | 0.43648054 | 0.53339055 | 18.2 % |" in text
    # focal loss: 0.2² · 0.09691001 = 0.00387640 and 0.01² · 0.43648054 = 0.00004365
    assert "| focal loss, γ = 2 | 0.00387640 | 0.00004365 | 0.00392005 | 98.9 % |" in text
    for p, q, want in ((0.9, 0.01, "0.48223803"), (0.7, 0.01, "0.59138250"), (0.8, 0.001, "0.14036119")):
        assert want in imbalance_example(p, q)


def test_loss_over_p_t_equals_its_formula():
    p_t = torch.tensor([0.1, 0.5, 0.9, 0.999], dtype=torch.float64)
    for gamma in (0.0, 0.5, 2.0):
        torch.testing.assert_close(focal_loss(p_t, gamma), -((1 - p_t) ** gamma) * p_t.log(), rtol=1e-6, atol=1e-9)


def test_cumulative_share_worked_by_hand():
    # losses 1, 2, 5: of 8 the easiest has 1/8, the two easiest 3/8
    assert cumulative_share(torch.tensor([5.0, 1.0, 2.0])).tolist() == pytest.approx([1 / 8, 3 / 8, 1.0])


@pytest.fixture()
def drawn(monkeypatch):
    """Keep the figures that are saved during a test open, and list them."""
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    yield figures
    monkeypatch.undo()
    for figure in figures:
        plt.close(figure)


def test_figure_1_has_a_labelled_curve_for_each_gamma(tmp_path, drawn):
    draw_figure_1(tmp_path / "1.png")
    (axes,) = drawn[0].axes
    labels = ["γ = 0 (cross entropy)", "γ = 0.5", "γ = 1", "γ = 2", "γ = 5"]
    curves = {line.get_label(): line for line in axes.get_lines()}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == labels == list(curves)
    x, y = curves["γ = 2"].get_data()  # (1 - 0.5)² · 0.693 at p_t = 0.5
    assert np.interp(0.5, x, y) == pytest.approx(0.25 * math.log(2), rel=1e-3)
    assert plt.imread(tmp_path / "1.png").shape[:2] == (504, 720), "4.2 x 6 inches at 120 dpi"


def test_figure_4_and_the_share_of_the_hardest_tenth(tmp_path, drawn):
    foreground, background = torch.rand(500), torch.cat([torch.full((900,), 0.999), torch.full((100,), 0.5)])
    shares = draw_figure_4(foreground, background, tmp_path / "4.png")
    left, right = drawn[0].axes
    assert [left.get_title(), right.get_title()] == ["foreground (500 examples)", "background (1,000 examples)"]
    assert [len(axes.get_lines()) for axes in (left, right)] == [4, 4] and (tmp_path / "4.png").is_file()
    assert list(shares) == [0.0, 0.5, 1.0, 2.0]
    # The hundred at 0.5 are the hardest tenth: 100 · 0.693 of 100 · 0.693 + 900 · 0.001 with γ = 0, and nearly all of
    # the loss with γ = 2.
    assert shares[0.0][1] == pytest.approx(69.31 / (69.31 + 0.9004), abs=1e-3) and shares[2.0][1] > 0.99999


def test_p_t_of_a_model_that_is_left_unchanged():
    model = build_model(tiny_cfg("MODEL.RETINANET.NORM", "BN")).eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    loss = model.cls_loss
    batches = [make_inputs([(96, 128)], [[[10.0, 12.0, 60.0, 70.0]]], [[2]], seed=i) for i in range(2)]
    foreground, background = collect_p_t(model, batches, background_per_image=50)
    assert len(background) == 100 and len(foreground) > 0
    # All scores start at the prior of 0.01: correct for background, wrong for foreground.
    assert background.mean() == pytest.approx(0.99, abs=0.005) and foreground.mean() == pytest.approx(0.01, abs=0.005)
    assert model.cls_loss is loss and not model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
