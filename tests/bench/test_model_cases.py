"""Detectron2's and the plugin's loss and assignment do the same work."""

import pytest
import torch

from retina_plugin.bench import model_cases
from retina_plugin.bench.model_cases import (
    BATCH,
    K,
    detectron2_assignment,
    detectron2_focal_loss,
    photograph,
    plugin_assignment,
    plugin_focal_loss,
    synthetic_labels,
    synthetic_logits,
)

CPU = torch.device("cpu")


@pytest.fixture()
def small(monkeypatch):
    """Make images small."""
    monkeypatch.setattr(model_cases, "SIZE", (64, 96))


def test_both_losses_are_equal(small):
    logits = synthetic_logits(CPU)
    labels = synthetic_labels(sum(x.shape[1] for x in logits), CPU)
    want = detectron2_focal_loss(logits, labels)
    assert want > 0
    torch.testing.assert_close(plugin_focal_loss(False)(logits, labels), want, rtol=1e-5, atol=0)


def test_both_assignments_are_equal(small):
    want, _ = detectron2_assignment(100)(CPU)()
    labels, _ = plugin_assignment(100)(CPU)()
    assert torch.equal(torch.stack(list(want)), labels) and ((labels >= 0) & (labels < K)).any()


def test_synthetic_logits_have_as_many_candidates_as_a_trained_head():
    above = sum((x > -2.944).sum().item() for x in synthetic_logits(CPU)) / BATCH  # logit of a score of 0.05
    assert 1_000 < above < 20_000, "candidates per image"


def test_photograph_is_smooth_with_grain():
    image = photograph().astype(float)
    assert image.shape == (480, 640, 3) and 30 < image.std() < 60
    assert 8 < (image[:, 1:] - image[:, :-1]).std() < 20, "neighbours differ by the grain, 8 times sqrt(2), and shades"
