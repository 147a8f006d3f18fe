"""All implementations of the prediction benchmark detect in the same images."""

import pytest
import torch

from retina_plugin.bench import model_cases, predict_cases

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(predict_cases, "IMAGES", 2)
    predict_cases.photographs.cache_clear()
    yield
    predict_cases.photographs.cache_clear()


@pytest.mark.long
def test_the_stream_detects_what_the_loop_detects_and_reports_the_broken_file(monkeypatch):
    monkeypatch.setattr(model_cases, "cfg_plugin", lambda *opts: model_cases_cfg(*opts, *model_cases.FP32_OPTS))
    theirs, ours = predict_cases.detectron2_loop(CPU)(), predict_cases.stream(CPU)()
    assert len(theirs) == 2 and [bool(x.error) for x in ours] == [False, False, True]
    found = [x for x in ours if x.found is not None]
    for a, b in zip(theirs, found, strict=True):
        assert abs(len(a["instances"]) - len(b.found.scores)) <= 2  # OpenCV and Pillow resize a little differently
        assert a["instances"].scores[:5].numpy() == pytest.approx(b.found.scores[:5], abs=0.02)


model_cases_cfg = model_cases.cfg_plugin
