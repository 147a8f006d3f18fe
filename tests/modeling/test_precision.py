"""Choice of the precision by name and device."""

import pytest
import torch
from support import BASE, make_inputs, tiny_cfg

from detectron2.modeling import build_model

from retina_plugin.config import config_from_text, dump_config, load_config, ready_config
from retina_plugin.modeling import precision
from retina_plugin.modeling.precision import autocast, precision_of, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("fast, want", [(True, torch.bfloat16), (False, None)])
def test_auto_selects_bf16_on_a_cpu_only_if_it_is_fast(monkeypatch, fast, want):
    monkeypatch.setattr(precision, "fast_bf16", lambda device: fast)
    assert resolve_precision("auto", CPU) == want


@pytest.mark.parametrize("fast, want", [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_selects_bf16_or_fp16_on_a_gpu(monkeypatch, fast, want):
    monkeypatch.setattr(precision, "fast_bf16", lambda device: fast)
    assert resolve_precision("auto", torch.device("cuda")) == want


def test_a_named_precision_is_used_or_refused():
    assert resolve_precision("bf16", CPU) == torch.bfloat16
    assert resolve_precision("fp32", CPU) is None
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        resolve_precision("fp16", CPU)


@pytest.mark.parametrize(
    "enabled, name, want", [(True, "bf16", torch.bfloat16), (True, "fp32", None), (False, "bf16", None)]
)
def test_the_keys_choose_the_precision_of_the_model(enabled, name, want):
    model = build_model(tiny_cfg("SOLVER.AMP.ENABLED", enabled, "SOLVER.AMP.PRECISION", name)).eval()
    assert model.autocast_dtype == want
    seen = []
    model.head.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[0][0].dtype))
    (result,) = model(make_inputs([(64, 64)], [[]], [[]]))
    assert seen == [want or torch.float32] and result["instances"].scores.dtype == torch.float32


def test_without_a_dtype_autocast_keeps_the_callers_context():
    ones = torch.ones(2, 2)
    with autocast(CPU, None):
        assert (ones @ ones).dtype == torch.float32
    with autocast(CPU, torch.bfloat16), autocast(CPU, None):
        assert (ones @ ones).dtype == torch.bfloat16


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    "opts, want",
    [
        ((), None),
        (("SOLVER.AMP.ENABLED", False), "fp32"),
        (("SOLVER.AMP.PRECISION", "bf16"), "bf16"),
        (("SOLVER.AMP.PRECISION", "fp32"), "fp32"),
    ],
)
def test_on_a_cpu_the_config_holds_the_precision_and_amp_is_off(opts, want, fast, monkeypatch):
    """AMP is off so that DefaultTrainer uses no AMPTrainer; a resolved config does not change, also not in its file."""
    monkeypatch.setattr("retina_plugin.config.resolve.fast_bf16_on_cpu", lambda: fast)
    cfg = load_config(BASE, ["MODEL.DEVICE", "cpu", "MODEL.RETINANET.NUM_CLASSES", 3, "MODEL.WEIGHTS", "x.pth", *opts])
    want = want or ("bf16" if fast else "fp32")
    assert (cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.PRECISION, precision_of(cfg)) == (False, want, want)
    for again in (ready_config(cfg), config_from_text(dump_config(cfg))):
        assert again.SOLVER.AMP == cfg.SOLVER.AMP
