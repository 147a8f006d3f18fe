"""Parts of the detector that are compiled."""

import logging

import pytest
import torch
from support import make_inputs, tiny_cfg
from torch import nn

from detectron2.modeling import build_model

from retina_plugin.modeling.compilation import compile_parts

BOXES = [[[20.0, 30.0, 90.0, 110.0], [5.0, 5.0, 60.0, 40.0], [40.0, 50.0, 56.0, 70.0]], []]


def test_an_unknown_part_to_compile_is_refused():
    known = r"MODEL.COMPILE is \['neck'\]; it must be a list of .* backbone, head, cls_loss"
    with pytest.raises(ValueError, match=known):
        tiny_cfg("MODEL.COMPILE", ["neck"])


def test_an_unknown_part_is_refused_without_a_config():
    with pytest.raises(ValueError, match=r"MODEL.COMPILE may hold backbone, head, cls_loss; got \['neck'\]"):
        compile_parts(nn.Module(), ["head", "neck"])


def test_a_part_that_cannot_be_compiled_is_left_with_a_warning(caplog):
    model = nn.Module()
    model.cls_loss = torch.sum
    with caplog.at_level(logging.WARNING):
        compile_parts(model, ["cls_loss"])
    assert "cls_loss" in caplog.text and model.cls_loss is torch.sum


@pytest.mark.long
def test_compiled_parts_are_equal_for_any_image_size_with_few_compilations():
    torch.manual_seed(1)
    small = ["MODEL.RETINANET.LEVELS", [3, 4]]
    plain = build_model(tiny_cfg(*small))
    compiled = build_model(tiny_cfg(*small, "MODEL.COMPILE", ["backbone", "head"]))
    compiled.load_state_dict(plain.state_dict())
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    for height, width in ((128, 192), (192, 128), (192, 256), (256, 320)):
        inputs = make_inputs([(height, width)] * 2, BOXES, [[0, 1, 2], []])
        want, got = plain.train()(inputs), compiled.train()(inputs)
        sum(got.values()).backward()
        for name in want:
            torch.testing.assert_close(got[name], want[name], rtol=1e-3, atol=1e-4)
    # One graph each for backbone and head, and at most one more of each for a special size.
    assert 2 <= counters["stats"]["unique_graphs"] <= 4
