"""The sides of a case do the same work: with small images, every one runs and results agree."""

import pytest
import torch

from retina_plugin.bench import benchmarks
from retina_plugin.bench.benchmarks import (
    CASES,
    detectron2_focal_loss,
    plugin_focal_loss,
    synthetic_labels,
    synthetic_logits,
)
from retina_plugin.bench.dataset_start import generated_coco
from retina_plugin.bench.implementations import random_inputs

CPU = torch.device("cpu")
SLOW = ["inference", "inference_batch", "loss_compiled"]
UNTRIED = ["train_step_compiled"]
"""What takes minutes to compile; its parts are compiled in tests/modeling/test_meta_arch.py."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(cases, "SIZE", (64, 96))
    monkeypatch.setattr(cases, "training_inputs", lambda device: random_inputs((64, 64), batch=2, num_boxes=3))
    data = cases.evaluation_data(num_images=20, detections_per_image=10)
    monkeypatch.setattr(cases, "evaluation_data", lambda: data)
    monkeypatch.setattr(cases, "generated_coco", lambda **options: generated_coco(30, 200, **options))


@pytest.mark.parametrize("name", [name for name in CASES if name not in SLOW + UNTRIED])
def test_every_side_of_every_case_runs(name):
    for prepare in CASES[name].sides.values():
        prepare(CPU)()


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_side_of_every_slow_case_runs(name, monkeypatch):
    monkeypatch.setattr(
        cases, "random_inputs", lambda size, batch, **options: random_inputs((160, 224), batch=2, **options)
    )
    results = {side: prepare(CPU)() for side, prepare in CASES[name].sides.items()}
    if name == "inference":
        want, got = (results[side]["instances"] for side in (cases.DETECTRON2, cases.FP32))
        assert len(want) > 10 and got.image_size == want.image_size == (480, 640)
        # Rounding, which processors do differently, may put a pair of boxes on the other side of the NMS threshold: one score more or less.
        nearest = (got.scores[:, None] - want.scores[None]).abs().amin(dim=1)
        assert (nearest < 1e-4).sum() >= 0.95 * len(want)


def test_the_two_losses_are_equal():
    logits, labels = (
        synthetic_logits(CPU),
        synthetic_labels(sum(8 * 12 * 9 // 4**i for i in range(2)) + 2 * 3 * 9 + 2 * 9, CPU),
    )
    logits = logits[:3] + [x[:, :9] for x in logits[3:]]
    want = detectron2_focal_loss(logits, labels)
    assert want > 0
    torch.testing.assert_close(plugin_focal_loss(False)(logits, labels), want, rtol=1e-5, atol=0)


def test_the_two_assignments_are_equal():
    (instances, _), labels, _ = (
        CASES["assign_100"].sides[cases.DETECTRON2](CPU)(),
        *CASES["assign_100"].sides[cases.DEFAULT](CPU)(),
    )
    assert torch.equal(torch.stack(list(instances)), labels) and ((labels >= 0) & (labels < cases.K)).any()


def test_the_logits_are_those_of_a_trained_head_in_number(monkeypatch):
    monkeypatch.setattr(cases, "SIZE", (800, 1216))
    above = sum((x > -2.944).sum().item() for x in synthetic_logits(CPU)) / cases.BATCH
    assert 1_000 < above < 20_000, "candidates above 0.05 an image"
