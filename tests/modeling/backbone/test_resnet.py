"""ResNets have Detectron2's parameters, and freeze the requested stages."""

import pytest
import torch
from torch import nn

from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone

from retina_plugin.modeling.backbone.resnet import build_resnet

ALL = ["res2", "res3", "res4", "res5"]


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_parameters_have_detectron2s_names_and_shapes(depth):
    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.OUT_FEATURES = depth, ALL
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    with torch.device("meta"):
        theirs = build_resnet_backbone(cfg, ShapeSpec(channels=3))
        ours = build_resnet(depth=depth, out_features=ALL, norm="FrozenBN", freeze_at=2)
    assert {n: p.shape for n, p in ours.state_dict().items()} == {n: p.shape for n, p in theirs.state_dict().items()}
    assert ours.output_shape() == theirs.output_shape()


def test_resnext_101_32x8d_has_the_papers_size():
    # Xie et al. 2017 / torchvision: 88.79 M with the classifier of 2048 · 1000 + 1000.
    with torch.device("meta"):
        model = build_resnet(depth=101, out_features=ALL, norm="BN", freeze_at=0, num_groups=32, width_per_group=8)
    assert sum(p.numel() for p in model.parameters()) + 2_049_000 == 88_791_336


@pytest.mark.parametrize("norm, kind", [("BN", nn.BatchNorm2d), ("GN", nn.GroupNorm), ("FrozenBN", FrozenBatchNorm2d)])
def test_norms_and_the_last_stage(norm, kind):
    model = build_resnet(depth=18, out_features=["res3"], norm=norm, freeze_at=0)
    assert any(isinstance(m, kind) for m in model.modules())
    assert not hasattr(model, "res4"), "stages after the last requested one are not built"
    assert model(torch.randn(1, 3, 64, 64))["res3"].shape == (1, 128, 8, 8)


@pytest.mark.parametrize("freeze_at, frozen", [(0, []), (1, ["stem"]), (2, ["stem", "res2"]), (5, ["stem", *ALL])])
def test_the_first_stages_are_frozen(freeze_at, frozen):
    model = build_resnet(depth=18, out_features=ALL, norm="BN", freeze_at=freeze_at)
    for name, stage in model.named_children():
        assert all(p.requires_grad == (name not in frozen) for p in stage.parameters()), name


@pytest.mark.parametrize("options", [{"depth": 20}, {"depth": 18, "num_groups": 32}])
def test_invalid_networks_are_refused(options):
    with pytest.raises(ValueError, match="MODEL.RESNETS"):
        build_resnet(out_features=ALL, norm="BN", freeze_at=0, **options)
