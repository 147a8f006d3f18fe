"""Every implementation of every case runs on small images, and their results agree."""

import pytest
import torch

from retina_plugin.bench import data_cases, model_cases
from retina_plugin.bench.benchmarks import CASES, DETECTRON2, FP32
from retina_plugin.bench.dataset_start import generated_coco
from retina_plugin.bench.implementations import random_inputs

CPU = torch.device("cpu")
SLOW = ["inference", "inference_batch", "loss_compiled"]
UNTRIED = ["train_step_compiled", "predict"]
"""Cases that take minutes; tests/modeling/test_meta_arch.py compiles their parts, test_predict_cases.py predicts."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Make images, batches and datasets small."""
    monkeypatch.setattr(model_cases, "SIZE", (64, 96))
    monkeypatch.setattr(model_cases, "training_inputs", lambda device: random_inputs((64, 64), batch=2, num_boxes=3))
    data = data_cases.evaluation_data(num_images=20, detections_per_image=10)
    monkeypatch.setattr(data_cases, "evaluation_data", lambda: data)
    monkeypatch.setattr(data_cases, "generated_coco", lambda **options: generated_coco(30, 200, **options))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in SLOW + UNTRIED])
def test_every_implementation_of_every_case_runs(name):
    for prepare in CASES[name].implementations.values():
        prepare(CPU)()


@pytest.mark.long
@pytest.mark.parametrize("name", SLOW)
def test_every_implementation_of_every_slow_case_runs(name, monkeypatch):
    def small_inputs(size, batch, **options):
        return random_inputs((160, 224), batch=2, **options)

    monkeypatch.setattr(model_cases, "random_inputs", small_inputs)
    results = {implementation: prepare(CPU)() for implementation, prepare in CASES[name].implementations.items()}
    if name == "inference":
        want, got = (results[implementation]["instances"] for implementation in (DETECTRON2, FP32))
        assert len(want) > 10 and got.image_size == want.image_size == (480, 640)
        # Rounding, which differs between processors, may move a pair of boxes across the NMS threshold, which adds or
        # removes a score.
        nearest = (got.scores[:, None] - want.scores[None]).abs().amin(dim=1)
        assert (nearest < 1e-4).sum() >= 0.95 * len(want)
