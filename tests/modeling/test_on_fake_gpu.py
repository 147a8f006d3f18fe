"""A training step and an inference on fake tensors of a GPU: PyTorch raises an error if devices are mixed.

FakeTensorMode propagates shapes, dtypes and devices without computing anything, so it runs without a GPU. Without a GPU
PyTorch disables autocast on "cuda", so all dtypes are float32. Counts that depend on the data (foreground anchors,
boxes that NMS keeps) are replaced by a constant.
"""

import itertools

import pytest
import torch
from support import make_inputs, tiny_cfg
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode

from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from retina_plugin.engine.solver import build_optimizer
from retina_plugin.modeling import meta_arch, postprocess
from retina_plugin.modeling.assignment import ChunkedOverlaps
from retina_plugin.modeling.labels import LabelCheck

FOUND = 5


@pytest.fixture()
def fake_gpu(monkeypatch):
    """Return the mode, with every data-dependent count replaced by ``FOUND``."""

    def nonzero(self, *, as_tuple=False):
        index = torch.zeros(FOUND, dtype=torch.int64, device=self.device)
        return (index,) * self.dim() if as_tuple else index.unsqueeze(1).expand(-1, self.dim())

    def nms(boxes, scores, threshold):
        assert boxes.device == scores.device
        return torch.zeros(FOUND, dtype=torch.int64, device=boxes.device)

    monkeypatch.setattr(torch.Tensor, "nonzero", nonzero)
    monkeypatch.setattr(postprocess, "nms", nms)
    # Both read values (labels; whether boxes are finite or empty), which fake tensors do not have.
    monkeypatch.setattr(LabelCheck, "_look", lambda self, image, extremes: None)
    monkeypatch.setattr(meta_arch, "detector_postprocess", lambda instances, height, width: instances)
    return FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True)


def on_fake_gpu(model, mode):
    """Replace the parameters and buffers of a model by fake ones on "cuda"."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                fake = mode.from_tensor(value).to("cuda").detach()
                module._parameters[name] = torch.nn.Parameter(fake, requires_grad=value.requires_grad)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = mode.from_tensor(value).to("cuda")


class Copies(TorchDispatchMode):
    """Record the shapes of tensors that are copied from the host to the GPU by a synchronising call."""

    def __init__(self):
        super().__init__()
        self.waited_for = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        is_copy = func is torch.ops.aten._to_copy.default and not kwargs.get("non_blocking")
        if is_copy and (args[0].device.type, out.device.type) == ("cpu", "cuda"):
            self.waited_for.append(tuple(args[0].shape))
        return out


def backward(loss):
    """Compute the gradients of the parameters by walking the graph, as autograd's engine would need a driver.

    Returns:
        Pairs of a parameter and its gradient, for every parameter that was reached.
    """
    order, seen, stack = [], set(), [(loss.grad_fn, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(following, False) for following, _ in node.next_functions if following is not None]
    grads, reached = {loss.grad_fn: {0: torch.ones_like(loss)}}, []
    for node in reversed(order):
        given = grads.get(node, {})
        if hasattr(node, "variable"):
            reached.append((node.variable, given[0]))
            continue
        run = node if callable(node) else node.apply  # a Function written in Python only has the latter
        outputs = run(*(given.get(i) for i in range(len(node._input_metadata))))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        for (following, i), grad in zip(node.next_functions, outputs, strict=False):
            if following is not None and grad is not None:
                into = grads.setdefault(following, {})
                into[i] = into[i] + grad if i in into else grad
    return reached


CONFIGS = {
    "bf16, frozen norms": (
        "bf16",
        {"MODEL.RESNETS.NORM": "FrozenBN", "MODEL.BACKBONE.FREEZE_AT": 2, "MODEL.WEIGHTS": "none"},
    ),
    "fp16, AdamW, GIoU": (
        "fp16",
        {"SOLVER.OPTIMIZER": "AdamW", "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "giou"},
    ),
    "fp32, norms in the head": (
        "fp32",
        {
            "MODEL.FPN.OUT_CHANNELS": 32,
            "MODEL.FPN.NORM": "GN",
            "MODEL.FPN.TOP_BLOCK": "conv_p5",
            "MODEL.RETINANET.NORM": "GN",
            "MODEL.CHANNELS_LAST": False,
        },
    ),
}


@pytest.mark.parametrize("precision, options", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.slow
def test_no_tensor_is_left_on_the_host(fake_gpu, precision, options):
    cfg = tiny_cfg(*itertools.chain(*options.items()))
    model = build_model(cfg)
    model.precision = precision  # not in the config, because without a GPU it refuses fp16
    with fake_gpu, EventStorage():
        on_fake_gpu(model, fake_gpu)
        inputs = make_inputs([(64, 96), (64, 64)], [[[10.0, 10.0, 60.0, 50.0]], []], [[0], []])
        assert inputs[0]["image"].device.type == "cpu", "as they come from the loader"
        for _ in range(2):  # twice: the second step uses cached anchors
            with Copies() as copies:
                losses = model.train()(inputs)
            reached = backward(sum(losses.values()))
        assert copies.waited_for == [], "the second step copies only images and boxes, without synchronising"
        assert all(loss.device.type == "cuda" and loss.dtype == torch.float32 for loss in losses.values())
        assert {id(p) for p, _ in reached} == {id(p) for p in model.parameters() if p.requires_grad}
        assert all(grad.device == p.device and grad.shape == p.shape for p, grad in reached)
        optimizer = build_optimizer(cfg, model)
        assert optimizer.defaults["fused"]
        with torch.no_grad():
            for _ in range(2):
                results = model.eval()(inputs)
        for result in results:
            found = result["instances"]
            tensors = (found.pred_boxes.tensor, found.scores, found.pred_classes)
            assert {x.device.type for x in tensors} == {"cuda"}


def test_a_tensor_left_on_the_host_raises_an_error(fake_gpu):
    model = build_model(tiny_cfg())
    with fake_gpu, EventStorage():
        on_fake_gpu(model, fake_gpu)
        model.pixel_std = model.pixel_std.cpu()
        with pytest.raises(RuntimeError, match="device"):
            sum(model.train()(make_inputs([(64, 64)], [[]], [[]])).values())


def test_assignment_does_not_synchronise_with_the_gpu(fake_gpu, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise AssertionError("synchronises with the device")

    with fake_gpu:
        anchors, boxes = torch.rand(500, 4, device="cuda"), torch.rand(3, 4, device="cuda")
        for name in ("item", "tolist", "nonzero", "cpu", "__bool__"):
            monkeypatch.setattr(torch.Tensor, name, refuse)
        iou, box, is_best = ChunkedOverlaps(anchors)(boxes, find_best=True)
    assert iou.shape == box.shape == is_best.shape == (500,)
