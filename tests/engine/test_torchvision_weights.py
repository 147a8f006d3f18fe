"""RetinaNets of torchvision give the same detections here; a model that does not fit them is refused."""

import functools
import re

import pytest
import torch
import torchvision
from option_pairs import pairs
from support import ROOT, tiny_cfg
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.retinanet import RetinaNetHead, _default_anchorgen
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from detectron2.modeling import build_model

from retina_plugin import load_config
from retina_plugin.engine.torchvision_names import from_torchvision
from retina_plugin.engine.torchvision_weights import bottom_up_options
from retina_plugin.engine.weights import adopt_names

K = 7
COMMON = {
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.FPN.OUT_CHANNELS": 256,
    "MODEL.ANCHOR_GENERATOR.NAME": "TorchvisionAnchors",
    "MODEL.RETINANET.NUM_CONVS": 4,
    "MODEL.RETINANET.NUM_CLASSES": K,
    "MODEL.RETINANET.CLIP_BEFORE_NMS": True,
    "TEST.DETECTIONS_PER_IMAGE": 300,
}
V1 = {**COMMON, "MODEL.RESNETS.DEPTH": 50, "MODEL.FPN.TOP_BLOCK": "conv_p5"}
V2 = {**COMMON, "MODEL.RESNETS.DEPTH": 50, "MODEL.RETINANET.NORM": "GN"}
SMALL_V1 = {**COMMON, "MODEL.FPN.TOP_BLOCK": "conv_p5"}


def cfg_with(options, changes=()):
    return tiny_cfg(*pairs({**options, **dict(changes)}))


def calibrated(model, image):
    """Random weights with realistic outputs: signals stay in range, anchors differ, scores and deltas vary."""
    generator = torch.Generator().manual_seed(5)
    for name, value in model.state_dict().items():
        if name.startswith("backbone.body") and ("bn" in name or "downsample.1" in name):
            if name.endswith("weight"):
                value.copy_(0.3 + 0.4 * torch.rand(value.shape, generator=generator))
            elif name.endswith(("running_mean", "bias")):
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
            elif name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif name.endswith(("conv.0.1.weight", "conv.1.1.weight")):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    model.eval()
    with torch.no_grad():
        outputs = model.head(list(model.backbone(model.transform([image])[0].tensors).values()))
        model.head.classification_head.cls_logits.weight.div_(outputs["cls_logits"].std())
        model.head.regression_head.bbox_reg.weight.mul_(0.2 / outputs["bbox_regression"].std())
    return model


def small_resnet(depth, normed_head=False, layers=(2, 3, 4), norm_layer=torch.nn.BatchNorm2d):
    """A RetinaNet as users of torchvision build their own."""
    backbone = resnet_fpn_backbone(
        backbone_name=f"resnet{depth}",
        weights=None,
        norm_layer=norm_layer,
        returned_layers=list(layers),
        extra_blocks=LastLevelP6P7(256, 256),
    )
    head = RetinaNetHead(256, 9, K, norm_layer=functools.partial(torch.nn.GroupNorm, 32) if normed_head else None)
    return RetinaNet(backbone, K, anchor_generator=_default_anchorgen(), head=head)


def sized(model, size):
    """Let a model leave images of (height, width) as they are."""
    model.transform.min_size, model.transform.max_size = (min(size),), max(size)
    return model


def assert_same_detections(theirs, cfg, size, state=None, file=""):
    image = torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(1)).float()
    calibrated(sized(theirs, size), image / 255)
    ours = build_model(cfg).eval()
    weights = state(theirs.state_dict()) if state else theirs.state_dict()
    result = ours.load_state_dict(adopt_names(weights, ours, file), strict=False)
    missing = [name for name in result.missing_keys if not name.endswith("num_batches_tracked")]
    assert missing == ["loss_normalizer"] and not result.unexpected_keys
    with torch.no_grad():
        (want,), got = theirs([image / 255]), ours([{"image": image}])[0]["instances"]
    extent = want["boxes"][:, 2:] - want["boxes"][:, :2]
    full = (extent > 0).all(dim=1)  # torchvision keeps boxes outside the image, with an area of 0
    assert len(got) == int(full.sum()) > 20
    boxes, scores, labels = want["boxes"][full], want["scores"][full], want["labels"][full]
    # Each has a counterpart; two with almost equal scores may be in the other order.
    same = (got.pred_boxes.tensor[:, None] - boxes).abs().amax(dim=2) < 0.02
    same &= ((got.scores[:, None] - scores).abs() < 1e-4) & (got.pred_classes[:, None] == labels)
    assert same.any(dim=0).all() and same.any(dim=1).all()


@pytest.mark.parametrize("size", [(160, 224), (131, 203)])
@pytest.mark.slow
def test_version_1_has_the_detections_of_torchvision(size):
    theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=K)
    assert_same_detections(theirs, cfg_with(V1), size)


@pytest.mark.parametrize("size", [(160, 224), (203, 131)])
@pytest.mark.slow
def test_version_2_has_the_detections_of_torchvision(size):
    theirs = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=K)
    assert_same_detections(theirs, cfg_with(V2), size)


@pytest.mark.parametrize("depth, normed, levels", [(18, False, (3, 7)), (34, True, (3, 7)), (18, True, (2, 7))])
@pytest.mark.slow
def test_a_custom_detector_on_a_different_resnet_has_the_same_detections(depth, normed, levels):
    layers = range(levels[0] - 1, 5)
    theirs = small_resnet(depth, normed, layers)
    options = {
        **SMALL_V1,
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RETINANET.NORM": "GN" if normed else "",
        "MODEL.RETINANET.LEVELS": list(range(levels[0], 8)),
    }
    if levels[0] == 2:
        sizes = [[x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))] for x in (32, 64, 128, 256, 512, 1024)]
        theirs.anchor_generator = AnchorGenerator(tuple(map(tuple, sizes)), ((0.5, 1.0, 2.0),) * 6)
        options["MODEL.ANCHOR_GENERATOR.SIZES"] = sizes
    assert_same_detections(theirs, cfg_with(options), (128, 160))


def old_names(state):
    """Return the names in the published file of version 1, which torchvision renames on loading."""
    renamed = {}
    for name, tensor in state.items():
        for part in ("classification_head", "regression_head"):
            if found := re.match(rf"head\.{part}\.conv\.(\d)\.0\.(.*)", name):
                name = f"head.{part}.conv.{2 * int(found[1])}.{found[2]}"
        for part in ("inner_blocks", "layer_blocks"):
            for i in range(3):
                name = name.replace(f"{part}.{i}.0.", f"{part}.{i}.")
        renamed[name] = tensor
    return renamed


def test_the_names_in_the_published_file_of_version_1_are_known():
    theirs = small_resnet(18)
    state = old_names(theirs.state_dict())
    assert "head.regression_head.conv.6.bias" in state and "backbone.fpn.inner_blocks.2.weight" in state
    theirs.load_state_dict(state)  # torchvision knows them as well
    assert_same_detections(theirs, cfg_with(SMALL_V1), (96, 128), state=old_names)


def test_the_published_file_of_version_1_has_an_epsilon_of_0():
    theirs = small_resnet(18, norm_layer=FrozenBatchNorm2d)
    for module in theirs.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0
    cfg = cfg_with(SMALL_V1, {"MODEL.RESNETS.NORM": "FrozenBN", "MODEL.WEIGHTS": "given below"})

    def small_variances(state):
        for name, value in state.items():
            if name.endswith("running_var"):
                value.mul_(1e-5)  # as large as the epsilon
            elif name.replace("weight", "running_var") in state:
                value.mul_(1e-5**0.5)
        return state

    file = "models/retinanet_resnet50_fpn_coco-eeacb38b.pth"
    assert_same_detections(theirs, cfg, (96, 128), state=small_variances, file=file)


def test_a_file_saved_from_several_processes_is_read():
    def prefixed(state):
        return {f"module.{name}": tensor for name, tensor in state.items()}

    assert_same_detections(small_resnet(18), cfg_with(SMALL_V1), (96, 128), state=prefixed)


def test_the_bottom_up_network_may_be_that_of_torchvision():
    network = {"MODEL.BOTTOM_UP.NAME": "build_retina_torchvision", "MODEL.TORCHVISION.NAME": "resnet18"}
    assert_same_detections(small_resnet(18), cfg_with(SMALL_V1, network), (96, 128))


WRONG = {
    "MODEL.RESNETS.STRIDE_IN_1X1": (True, "False"),
    "MODEL.FPN.TOP_BLOCK": ("conv_c5", "conv_p5"),
    "MODEL.RETINANET.NORM": ("GN", "''"),
    "MODEL.RETINANET.NUM_CONVS": (3, "4"),
    "MODEL.RESNETS.DEPTH": (101, "50"),
    "MODEL.RESNETS.NORM": ("GN", "FrozenBN or BN"),
    "MODEL.FPN.OUT_CHANNELS": (128, "256"),
    "MODEL.FPN.NORM": ("BN", "''"),
    "MODEL.FPN.NAME": ("bifpn", "fpn"),
    "MODEL.RETINANET.HEAD_NAME": ("shared_tower", "retinanet"),
    "MODEL.ANCHOR_GENERATOR.NAME": ("PyramidAnchorGenerator", "TorchvisionAnchors"),
    "MODEL.RETINANET.BBOX_REG_WEIGHTS": ((10.0, 10.0, 5.0, 5.0), r"\[1.0, 1.0, 1.0, 1.0\]"),
}


@pytest.fixture(scope="module")
def version_1():
    return retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=K).state_dict()


@pytest.mark.parametrize("key", WRONG)
def test_a_model_that_would_compute_something_different_is_refused(key, version_1):
    wrong, right = WRONG[key]
    with pytest.raises(ValueError, match=rf"{key} {right}"):
        adopt_names(version_1, build_model(cfg_with(V1, {key: wrong})))


def test_max_pooling_instead_of_convolutions_is_refused(version_1):
    with pytest.raises(ValueError, match="MODEL.FPN.TOP_BLOCK conv_p5"):
        adopt_names(version_1, build_model(cfg_with(V1, {"MODEL.FPN.TOP_BLOCK": "max_pool"})))


def test_default_pixels_are_refused_and_chosen_ones_are_a_warning(version_1, caplog):
    defaults = {
        "INPUT.FORMAT": "BGR",
        "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
        "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    }
    with pytest.raises(ValueError, match=r"INPUT.FORMAT RGB[^\n]*\n *MODEL.PIXEL_MEAN \[123.675, 116.28, 103.53\]"):
        adopt_names(version_1, build_model(cfg_with(V1, defaults)))
    adopt_names(version_1, build_model(cfg_with(V1, {"MODEL.PIXEL_STD": [60.0, 60.0, 60.0]})))
    assert "MODEL.PIXEL_STD" in caplog.text


def test_all_keys_are_listed_at_once(version_1):
    with pytest.raises(ValueError) as error:
        adopt_names(version_1, build_model(tiny_cfg("MODEL.RESNETS.DEPTH", 50, "MODEL.RETINANET.NUM_CLASSES", K)))
    lines = {line.split(" (")[0].strip() for line in str(error.value).splitlines()[1:]}
    assert lines >= {
        "MODEL.RESNETS.STRIDE_IN_1X1 False",
        "MODEL.FPN.TOP_BLOCK conv_p5",
        "MODEL.FPN.OUT_CHANNELS 256",
        "MODEL.RETINANET.NUM_CONVS 4",
        "MODEL.ANCHOR_GENERATOR.NAME TorchvisionAnchors",
        "INPUT.FORMAT RGB",
    }


def test_a_different_detector_of_torchvision_is_refused(version_1):
    fcos = {**version_1, "head.regression_head.bbox_ctrness.weight": torch.zeros(1, 256, 3, 3)}
    with pytest.raises(ValueError, match="bbox_ctrness.weight has no place in the model"):
        adopt_names(fcos, build_model(cfg_with(V1)))


def test_a_file_with_a_missing_tensor_is_refused(version_1):
    holed = {name: tensor for name, tensor in version_1.items() if name != "backbone.fpn.layer_blocks.1.0.weight"}
    with pytest.raises(ValueError, match="backbone.fpn_output4.weight is not in the file"):
        adopt_names(holed, build_model(cfg_with(V1)))


def test_fewer_levels_are_allowed(version_1):
    model = build_model(cfg_with(V1, {"MODEL.RETINANET.LEVELS": [3, 4, 5]}))
    result = model.load_state_dict(adopt_names(version_1, model), strict=False)
    assert {name.split(".")[1] for name in result.unexpected_keys} == {"top_block"}


def numbered(classes):
    """Weights of a detector whose logit of class k has bias k for every anchor."""
    theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=classes)
    theirs.head.classification_head.cls_logits.bias.data = torch.arange(float(classes)).repeat(9)
    return theirs.state_dict()


@pytest.mark.parametrize(
    "theirs, ours, first_and_last",
    [(91, 80, (1.0, 90.0)), (91, 90, (1.0, 90.0)), (5, 4, (1.0, 4.0)), (4, 4, (0.0, 3.0))],
)
def test_the_classes_of_the_model_are_taken_from_the_file(theirs, ours, first_and_last):
    model = build_model(cfg_with(V1, {"MODEL.RETINANET.NUM_CLASSES": ours}))
    bias = adopt_names(numbered(theirs), model)["head.cls_score.bias"].view(9, -1)
    assert bias.shape[1] == ours and (bias[0, 0].item(), bias[0, -1].item()) == first_and_last
    assert torch.equal(bias, bias[:1].expand(9, -1))
    if ours == 80:
        assert bias[0, 11] == 13.0, "COCO has no category 12: the twelfth class is 13, the stop sign"


def test_a_model_that_must_be_trained_is_only_warned_of_anchors_and_pixels(caplog):
    different = {
        "MODEL.RETINANET.NUM_CLASSES": 20,
        "MODEL.ANCHOR_GENERATOR.NAME": "PyramidAnchorGenerator",
        "INPUT.FORMAT": "BGR",
    }
    renamed = adopt_names(numbered(91), build_model(cfg_with(V1, different)))
    assert renamed["head.cls_score.bias"].shape == (9 * 91,), "unchanged, for the checkpointer to leave out"
    assert "INPUT.FORMAT RGB" in caplog.text and "MODEL.ANCHOR_GENERATOR.NAME TorchvisionAnchors" in caplog.text


def test_an_unknown_order_of_anchors_is_refused(version_1):
    different = {
        "MODEL.ANCHOR_GENERATOR.NAME": "DefaultAnchorGenerator",
        "MODEL.ANCHOR_GENERATOR.SIZES": [[x, x * 2 ** (1 / 3), x * 2 ** (2 / 3)] for x in (32, 64, 128, 256, 512)],
        "MODEL.RETINANET.NUM_CLASSES": 3,
    }
    with pytest.raises(ValueError, match="MODEL.ANCHOR_GENERATOR.NAME to TorchvisionAnchors"):
        adopt_names(version_1, build_model(cfg_with(V1, different)))


@pytest.mark.parametrize(
    "name, depth, stride, text",
    [
        ("resnet50", 50, True, "STRIDE_IN_1X1 False"),
        ("resnet50", 101, False, "DEPTH 50"),
        ("resnet34", 18, False, "DEPTH 34"),
        ("resnext50_32x4d", 50, False, "NUM_GROUPS 32"),
        ("wide_resnet50_2", 50, False, "WIDTH_PER_GROUP 128"),
    ],
)
def test_a_classifier_for_a_different_resnet_is_refused(name, depth, stride, text):
    state = torchvision.models.get_model(name, weights=None).state_dict()
    cfg = cfg_with({"MODEL.RESNETS.DEPTH": depth, "MODEL.RESNETS.STRIDE_IN_1X1": stride})
    with pytest.raises(ValueError, match=text):
        adopt_names(state, build_model(cfg))


@pytest.mark.parametrize(
    "name, groups, width", [("resnext50_32x4d", 32, 4), ("resnext101_32x8d", 32, 8), ("wide_resnet50_2", 1, 128)]
)
def test_groups_and_width_are_inferred_from_the_shapes(name, groups, width):
    with torch.device("meta"):
        state = torchvision.models.get_model(name, weights=None).state_dict()
    options = bottom_up_options(from_torchvision(state))
    assert (options["MODEL.RESNETS.NUM_GROUPS"], options["MODEL.RESNETS.WIDTH_PER_GROUP"]) == (groups, width)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, build",
    [("torchvision_R_50_FPN", retinanet_resnet50_fpn), ("torchvision_R_50_FPN_v2", retinanet_resnet50_fpn_v2)],
)
def test_the_shipped_configs_load_the_files_that_they_name(name, build, tmp_path):
    """91 classes in the file, the 80 of COCO in the config; through the checkpointer, as a user loads them."""
    from retina_plugin.engine.checkpoint import RetinaCheckpointer

    cfg = load_config(ROOT / f"configs/coco/{name}.yaml", ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", False])
    theirs = build(weights=None, weights_backbone=None)
    theirs.head.classification_head.cls_logits.bias.data = torch.arange(91.0).repeat(9)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = build_model(cfg)
    RetinaCheckpointer(model, cfg=cfg).load(str(tmp_path / "weights.pth"))
    assert model.head.cls_score.bias.view(9, 80)[:, [0, 11, 79]].tolist() == [[1.0, 13.0, 90.0]] * 9
    torch.testing.assert_close(model.head.bbox_subnet[0].weight, theirs.head.regression_head.conv[0][0].weight)
