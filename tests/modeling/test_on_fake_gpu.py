"""A training step and an inference on tensors that say they are on a GPU: PyTorch refuses to mix devices.

FakeTensorMode follows shapes, types and devices without computing anything, so it runs without a GPU.
Without a GPU PyTorch switches autocast on "cuda" off, so types are followed as far as float32 only.
What depends on the data (how many anchors are foreground, what NMS keeps) is set to a number.
"""

import pytest
import torch
from conftest import make_inputs, tiny_cfg
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
    """The mode, with every search for a number of things finding ``FOUND`` of them on the device that was searched."""

    def nonzero(self, *, as_tuple=False):
        index = torch.zeros(FOUND, dtype=torch.int64, device=self.device)
        return (index,) * self.dim() if as_tuple else index.unsqueeze(1).expand(-1, self.dim())

    def nms(boxes, scores, threshold):
        assert boxes.device == scores.device
        return torch.zeros(FOUND, dtype=torch.int64, device=boxes.device)

    monkeypatch.setattr(torch.Tensor, "nonzero", nonzero)
    monkeypatch.setattr(postprocess, "nms", nms)
    # Detectron2's; it looks at values (are the boxes finite, which are empty), which fake ones have not.
    monkeypatch.setattr(LabelCheck, "_look", lambda self, image, extremes: None)  # values, too
    monkeypatch.setattr(meta_arch, "detector_postprocess", lambda instances, height, width: instances)
    return FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True)


def on_fake_gpu(model, mode):
    """Parameters and buffers of a model become fake ones on "cuda"."""
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, value in store.items():
                if value is not None:
                    fake = mode.from_tensor(value).to("cuda")
                    store[name] = (
                        torch.nn.Parameter(fake.detach(), requires_grad=value.requires_grad)
                        if isinstance(value, torch.nn.Parameter)
                        else fake
                    )
    return model


class Copies(TorchDispatchMode):
    """Notes what is copied from the host to the GPU by calls that wait for it."""

    def __init__(self):
        super().__init__()
        self.waited_for = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if (
            func is torch.ops.aten._to_copy.default
            and args[0].device.type == "cpu"
            and out.device.type == "cuda"
            and not kwargs.get("non_blocking")
        ):
            self.waited_for.append(tuple(args[0].shape))
        return out


def backward(loss):
    """Gradients of the parameters by walking the graph: autograd's engine itself would ask the driver for streams.

    Returns:
        For every parameter that was reached, the parameter and its gradient.
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
        run = node if callable(node) else node.apply  # a Function written in Python has the latter only
        outputs = run(*(given.get(i) for i in range(len(node._input_metadata))))
        for (following, i), grad in zip(
            node.next_functions, outputs if isinstance(outputs, tuple) else (outputs,), strict=False
        ):
            if following is not None and grad is not None:
                into = grads.setdefault(following, {})
                into[i] = into[i] + grad if i in into else grad
    return reached


CONFIGS = {
    "bf16, frozen norms": [
        "bf16",
        "MODEL.RESNETS.NORM",
        "FrozenBN",
        "MODEL.BACKBONE.FREEZE_AT",
        2,
        "MODEL.WEIGHTS",
        "none",
    ],
    "fp16, AdamW, GIoU": ["fp16", "SOLVER.OPTIMIZER", "AdamW", "MODEL.RETINANET.BBOX_REG_LOSS_TYPE", "giou"],
    "fp32, norms in the head": [
        "fp32",
        "MODEL.FPN.OUT_CHANNELS",
        32,
        "MODEL.RETINANET.NORM",
        "GN",
        "MODEL.FPN.NORM",
        "GN",
        "MODEL.FPN.TOP_BLOCK",
        "conv_p5",
        "MODEL.CHANNELS_LAST",
        False,
    ],
}


@pytest.mark.parametrize("opts", CONFIGS.values(), ids=CONFIGS)
def test_no_tensor_is_left_on_the_host(fake_gpu, opts):
    precision, *opts = opts
    cfg = tiny_cfg(*opts)
    model = build_model(cfg)
    model.precision = precision  # the config is of a machine without a GPU, which refuses fp16
    with fake_gpu, EventStorage():
        on_fake_gpu(model, fake_gpu)
        inputs = make_inputs([(64, 96), (64, 64)], [[[10.0, 10.0, 60.0, 50.0]], []], [[0], []])
        assert inputs[0]["image"].device.type == "cpu", "as the loader gives them"
        for _ in range(2):  # twice: the second one finds anchors and folded weights kept
            with Copies() as copies:
                losses = model.train()(inputs)
            reached = backward(sum(losses.values()))
        assert copies.waited_for == [], (
            "in the second step nothing is copied to the GPU but images and boxes, and these without waiting"
        )
        assert all(loss.device.type == "cuda" and loss.dtype == torch.float32 for loss in losses.values())
        assert {id(p) for p, _ in reached} == {id(p) for p in model.parameters() if p.requires_grad}
        assert all(grad.device == p.device and grad.shape == p.shape for p, grad in reached)
        optimizer = build_optimizer(cfg, model)
        assert optimizer.defaults["fused"]
        with torch.no_grad():
            for _ in range(2):
                results = model.eval()(inputs)
        for result in results:
            instances = result["instances"]
            assert {x.device.type for x in (instances.pred_boxes.tensor, instances.scores, instances.pred_classes)} == {
                "cuda"
            }


def test_the_test_fails_on_a_tensor_left_behind(fake_gpu):
    model = build_model(tiny_cfg())
    with fake_gpu, EventStorage():
        on_fake_gpu(model, fake_gpu)
        model.pixel_std = model.pixel_std.cpu()
        with pytest.raises(RuntimeError, match="device"):
            sum(model.train()(make_inputs([(64, 64)], [[]], [[]])).values())


def test_assignment_asks_the_gpu_nothing(fake_gpu, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise AssertionError("waits for the device")

    with fake_gpu:
        anchors, boxes = torch.rand(500, 4, device="cuda"), torch.rand(3, 4, device="cuda")
        for name in ("item", "tolist", "nonzero", "cpu", "__bool__"):
            monkeypatch.setattr(torch.Tensor, name, refuse)
        iou, box, is_best = ChunkedOverlaps(anchors)(boxes, find_best=True)
    assert iou.shape == box.shape == is_best.shape == (500,)
