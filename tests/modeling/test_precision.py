"""Which arithmetic, by name and device."""

import copy

import pytest
import torch

from conftest import make_inputs, tiny_cfg
from detectron2.modeling import build_model

from retina_plugin.modeling import precision
from retina_plugin.modeling.precision import autocast, keep_depthwise_in_float32, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("fast, want", [(True, torch.bfloat16), (False, None)])
def test_auto_takes_bf16_on_a_cpu_only_where_it_is_fast(monkeypatch, fast, want):
    monkeypatch.setattr(precision, "fast_bf16", lambda device: fast)
    assert resolve_precision("auto", CPU) == want


@pytest.mark.parametrize("fast, want", [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_on_a_gpu(monkeypatch, fast, want):
    monkeypatch.setattr(precision, "fast_bf16", lambda device: fast)
    assert resolve_precision("auto", torch.device("cuda")) == want


def test_named_precisions():
    assert resolve_precision("bf16", CPU) == torch.bfloat16
    assert resolve_precision("fp32", CPU) is None
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        resolve_precision("fp16", CPU)


def test_the_keys_choose_the_precision_of_the_model():
    for enabled, name, want in ((True, "bf16", torch.bfloat16), (True, "fp32", None), (False, "bf16", None)):
        model = build_model(tiny_cfg("SOLVER.AMP.ENABLED", enabled, "SOLVER.AMP.PRECISION", name)).eval()
        assert model.autocast_dtype == want
        seen = []
        model.head.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[0][0].dtype))
        (result,) = model(make_inputs([(64, 64)], [[]], [[]]))
        assert seen == [want or torch.float32] and result["instances"].scores.dtype == torch.float32


def test_autocast_leaves_the_callers_alone_without_a_type():
    ones = torch.ones(2, 2)
    with autocast(CPU, None):
        assert (ones @ ones).dtype == torch.float32
    with autocast(CPU, torch.bfloat16), autocast(CPU, None):
        assert (ones @ ones).dtype == torch.bfloat16


def test_depthwise_convolutions_stay_in_float32_on_a_cpu_and_give_the_type_of_the_rest():
    net = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 1), torch.nn.Conv2d(8, 8, 3, groups=8))
    assert keep_depthwise_in_float32(net) == 1
    names, seen = list(net.state_dict()), []
    net[1].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    x = torch.randn(1, 4, 9, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        middle = net[0](x)
        got = net[1](middle)
    want = torch.nn.functional.conv2d(middle.float(), net[1].weight, net[1].bias, groups=8)
    assert torch.equal(got, want.bfloat16()), "one rounding, at the end"
    assert net(x).dtype == torch.float32 and seen == [torch.bfloat16, torch.float32]
    assert list(net.state_dict()) == names and list(copy.deepcopy(net).state_dict()) == names
