"""The graph has the raw predictions of the model, for any size and batch."""

import pytest
import torch
from support import make_inputs, tiny_cfg

from detectron2.modeling import build_model

from retina_plugin.export.graph import DetectorGraph

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("keys", [[], ["MODEL.FPN.NAME", "bifpn"], ["MODEL.RETINANET.LEVELS", [3, 4, 5, 6]]])
@torch.no_grad()
def test_outputs_are_those_of_the_model(keys):
    model = build_model(tiny_cfg(*keys)).eval()
    d = model.backbone.size_divisibility
    inputs = make_inputs([(d, 2 * d)] * 2, [[], []], [[], []])
    predictions = model.predict(model.preprocess_image(inputs))
    logits, best, deltas = DetectorGraph(model)(torch.stack([x["image"].float() for x in inputs]))
    torch.testing.assert_close(logits, torch.cat(predictions.logits, dim=1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(deltas, torch.cat(predictions.deltas, dim=1), atol=1e-5, rtol=1e-4)
    assert torch.equal(best, logits.amax(dim=2)) and logits.shape[2] == 3
