"""Weights of torchvision's classifiers and RetinaNets: the plugin's names, its order of anchors, and what they need of the model."""

import logging
import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from detectron2.config import get_cfg
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from retina_plugin.config.pixels import IMAGENET

logger = logging.getLogger(__name__)

BLOCKS = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
"""Depth of a ResNet by the blocks of its stages and whether these are bottlenecks (He et al. 2016, table 1)."""

COCO_SLOTS = 91
"""Classes of torchvision's COCO models: COCO's own numbers up to 90, of which 80 are used, and 0."""

EPSILON_0 = re.compile(r"retinanet_resnet50_fpn_coco-eeacb38b")
"""The one published file whose batch normalisation divides by the variance alone, without an epsilon (``overwrite_eps`` in torchvision)."""

_BACKBONE = [
    (r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}."),
    (r"^(conv1|bn1)\.", r"stem.\1."),
    (r"\bbn(\d)\.", r"conv\1.norm."),
    (r"downsample\.0\.", r"shortcut."),
    (r"downsample\.1\.", r"shortcut.norm."),
]
_SUBNETS = {"classification_head": "cls_subnet", "regression_head": "bbox_subnet"}


def _rename(name: str, rules: list) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def is_detector(names: Iterable[str]) -> bool:
    """Whether tensors of these names are of a one-stage detector of torchvision."""
    return "head.classification_head.cls_logits.weight" in names


def _detector_rules(names: Iterable[str]) -> list:
    """Rules for everything but the bottom-up network, whose last map, at stride 2**5, is the last that the pyramid takes.

    Files from before torchvision 0.13, the published one of ``retinanet_resnet50_fpn`` among them, have one number
    less in the names of convolutions, and count the ReLUs of the head.
    """
    laterals = {m[1] for name in names if (m := re.match(r"backbone\.fpn\.inner_blocks\.(\d)\.", name))}
    first_level = 6 - len(laterals) if laterals else 3
    convs_apart = (
        3 if any(name.startswith("head.classification_head.conv.0.1.") for name in names) else 2
    )  # convolution, norm, ReLU

    def level(m: re.Match) -> int:
        return int(m[1]) + first_level

    def subnet(m: re.Match) -> str:
        return f"head.{_SUBNETS[m[1]]}.{convs_apart * int(m[2]) + int(m[3])}."

    return [
        (r"^backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?(?=weight|bias)", lambda m: f"backbone.fpn_lateral{level(m)}."),
        (r"^backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?(?=weight|bias)", lambda m: f"backbone.fpn_output{level(m)}."),
        (r"^backbone\.fpn\.inner_blocks\.(\d)\.1\.", lambda m: f"backbone.fpn_lateral{level(m)}.norm."),
        (r"^backbone\.fpn\.layer_blocks\.(\d)\.1\.", lambda m: f"backbone.fpn_output{level(m)}.norm."),
        (r"^backbone\.fpn\.extra_blocks\.", "backbone.top_block."),
        (r"^head\.(classification_head|regression_head)\.conv\.(\d)\.(\d)\.", subnet),
        (r"^head\.(classification_head|regression_head)\.conv\.(\d)\.", lambda m: f"head.{_SUBNETS[m[1]]}.{m[2]}."),
        (r"^head\.classification_head\.cls_logits\.", "head.cls_score."),
        (r"^head\.regression_head\.bbox_reg\.", "head.bbox_pred."),
    ]


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a torchvision ResNet classifier, or its RetinaNet (v1 and v2), to the plugin's names; tensors stay as they are.

    The classifier's last layer and BatchNorm's batch counters are left out. In a RetinaNet the channels of the output
    layers stay in torchvision's order; :func:`adopt_detector` changes it.

    Args:
        state: tensors by name, such as (C, Cin, 3, 3).

    Example:
        >>> list(from_torchvision({"layer1.0.bn2.weight": torch.ones(1), "fc.bias": torch.ones(1)}))
        ['backbone.bottom_up.res2.0.conv2.norm.weight']
    """
    renamed, rules = {}, _detector_rules(state)
    for name, tensor in state.items():
        body = name.removeprefix("backbone.body.")
        if name.endswith("num_batches_tracked") or name.startswith("fc."):
            continue
        if body != name or re.match(r"(layer\d|conv1|bn1)\.", name):
            renamed["backbone.bottom_up." + _rename(body, _BACKBONE)] = tensor
        else:
            renamed[_rename(name, rules)] = tensor
    return renamed


def bottom_up_options(state: dict[str, Tensor], stages: int = 4) -> dict[str, object]:
    """What of MODEL.RESNETS the shapes of a ResNet say, given the plugin's names; {} for any other network.

    Args:
        state: tensors by name.
        stages: how many stages to look at, of the first; later ones may not be built.
    """
    prefix = "backbone.bottom_up.res"
    blocks = [
        {name[len(prefix) :].split(".")[1] for name in state if name.startswith(f"{prefix}{stage}.")}
        for stage in range(2, 6)
    ]
    first = state.get(f"{prefix}2.0.conv2.weight")
    if first is None:
        return {}
    bottleneck = f"{prefix}2.0.conv3.weight" in state
    counts = tuple(len(names) for names in blocks[:stages])
    fitting = [
        depth for (all_counts, kind), depth in BLOCKS.items() if all_counts[:stages] == counts and kind == bottleneck
    ]
    statistics = any(name.startswith(f"{prefix}2.") and name.endswith("running_var") for name in state)
    options: dict[str, object] = {
        "MODEL.RESNETS.DEPTH": " or ".join(map(str, fitting)) or f"(blocks {counts})",
        "MODEL.RESNETS.NORM": "FrozenBN or BN" if statistics else "something else",
    }
    if bottleneck:
        groups = first.shape[0] // first.shape[1]
        options |= {"MODEL.RESNETS.NUM_GROUPS": groups, "MODEL.RESNETS.WIDTH_PER_GROUP": first.shape[0] // groups}
    return options


def detector_options(state: dict[str, Tensor]) -> dict[str, object]:
    """What the shapes of a detector say about neck and head, given the plugin's names: config keys and values."""
    laterals = sorted(name for name in state if re.fullmatch(r"backbone\.fpn_lateral\d\.weight", name))
    plain = bool(laterals) and not any(name.startswith("backbone.refine.") for name in state)
    options: dict[str, object] = {"MODEL.FPN.NAME": "fpn without EXTRA_CONVS" if plain else "something else"}
    channels = state[laterals[0]].shape[0] if laterals else None
    if laterals:
        options["MODEL.FPN.OUT_CHANNELS"] = channels
        options["MODEL.FPN.NORM"] = "''" if laterals[0].replace("weight", "norm.weight") not in state else "a norm"
    if (
        top := next(
            (state[name] for name in sorted(state) if re.fullmatch(r"backbone\.top_block\.p\d\.weight", name)), None
        )
    ) is not None:
        options["MODEL.FPN.TOP_BLOCK"] = "conv_p5" if top.shape[1] == channels else "conv_c5"
    subnet = {name: tensor for name, tensor in state.items() if re.match(r"head\.cls_subnet\..*weight$", name)}
    options["MODEL.RETINANET.HEAD_NAME"] = (
        "retinanet" if not any(name.startswith("head.subnet.") for name in state) else "shared_tower"
    )
    options["MODEL.RETINANET.NUM_CONVS"] = sum(tensor.ndim == 4 for tensor in subnet.values())
    norms = {name for name, tensor in subnet.items() if tensor.ndim == 1}
    statistics = any(name.startswith("head.cls_subnet.") and name.endswith("running_mean") for name in state)
    options["MODEL.RETINANET.NORM"] = "''" if not norms else "BN" if statistics else "GN"
    return options


def _stride_in_1x1(bottom_up: nn.Module) -> bool | None:
    """Where a ResNet's bottlenecks have their stride; None for any other network."""
    block = next(iter(getattr(bottom_up, "res3", ())), None)
    return block.conv1.stride == (2, 2) if hasattr(block, "conv3") else None


def _resnet_differences(theirs: dict[str, Tensor], model: nn.Module) -> dict[str, tuple[object, object]]:
    """Keys in which the bottom-up network of a model differs from a file, with the file's value and the model's."""
    ours = model.state_dict()
    stages = sum(any(name.startswith(f"backbone.bottom_up.res{stage}.") for name in ours) for stage in range(2, 6))
    want, have = bottom_up_options(theirs, stages), bottom_up_options(ours, stages)
    differing = {key: (value, have.get(key, "something else")) for key, value in want.items() if have.get(key) != value}
    if _stride_in_1x1(model.backbone.bottom_up):
        differing["MODEL.RESNETS.STRIDE_IN_1X1"] = (False, True)
    return differing


def _pixels_of(model: nn.Module) -> tuple[str, list[float], list[float]]:
    return model.input_format, *(
        [round(x, 3) for x in values.flatten().tolist()] for values in (model.pixel_mean, model.pixel_std)
    )


def _pixel_differences(model: nn.Module) -> dict[str, tuple[object, object]]:
    keys = ("INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD")
    want = (IMAGENET.format, list(IMAGENET.mean), list(IMAGENET.std))
    return {key: (a, b) for key, a, b in zip(keys, want, _pixels_of(model), strict=True) if a != b}


def _pixels_untouched(model: nn.Module) -> bool:
    cfg = get_cfg()
    return _pixels_of(model) == (cfg.INPUT.FORMAT, list(cfg.MODEL.PIXEL_MEAN), list(cfg.MODEL.PIXEL_STD))


def _list(differing: dict[str, tuple[object, object]]) -> str:
    return "".join(f"\n  {key} {want} (the model has {have})" for key, (want, have) in differing.items())


def adopt_classifier(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights of a ResNet classifier of torchvision, for the bottom-up network of ``model``.

    Raises:
        ValueError: the model's ResNet is another one, or has its strides elsewhere; with the keys to set.
    """
    renamed = from_torchvision(state)
    if differing := _resnet_differences(renamed, model):
        raise ValueError(f"these weights are of a ResNet of torchvision; set{_list(differing)}")
    if differing := _pixel_differences(model):
        logger.warning("torchvision trained these weights with other pixels than the model takes:%s", _list(differing))
    return renamed


def adopt_detector(state: dict[str, Tensor], model: nn.Module, file: str = "") -> dict[str, Tensor]:
    """The weights of a RetinaNet of torchvision, v1 or v2, such that ``model`` detects with them what torchvision does.

    Beside the names the order of anchors changes: torchvision's are ordered ratio by ratio, Detectron2's size by size, so the
    channels of the two output layers are permuted. Convolutions before a norm have no bias there and a bias of 0 here.
    Of the 91 classes of COCO, a model with 80 gets those that COCO uses, in Detectron2's order; one with a class less than
    the file gets all but class 0, which torchvision keeps for background.

    Args:
        state: tensors by name.
        model: the detector.
        file: its path or address; the published file of v1 has another epsilon.

    Raises:
        ValueError: the model would compute something else; with the keys to set. Anchors and pixels are only warned of if
            the model's classes or anchors are so different that it has to be trained before it detects anything.
    """
    names = set(model.state_dict())
    renamed = from_torchvision(state)
    if hasattr(model.backbone.bottom_up, "net"):
        body = {
            name.removeprefix("backbone.body."): tensor
            for name, tensor in state.items()
            if name.startswith("backbone.body.")
        }
        renamed = {name: tensor for name, tensor in renamed.items() if not name.startswith("backbone.bottom_up.")}
        renamed |= {
            f"backbone.bottom_up.net.{name}": tensor
            for name, tensor in body.items()
            if not name.endswith("num_batches_tracked")
        }
    elif EPSILON_0.search(file):
        for name, module in model.named_modules():
            if f"{name}.running_var" in renamed:
                renamed[f"{name}.running_var"] = renamed[f"{name}.running_var"] - module.eps
    for name in [name for name in names if re.match(r"head\.(cls|bbox)_subnet\.\d+\.bias", name)]:
        weight = name.replace("bias", "weight")
        if name not in renamed and weight in renamed:
            renamed[name] = renamed[weight].new_zeros(len(renamed[weight]))
    _refuse_other_models(renamed, model)
    _order_outputs(renamed, model)
    _refuse_leftovers(renamed, model)
    return renamed


def _refuse_other_models(renamed: dict[str, Tensor], model: nn.Module) -> None:
    """Raise if a file needs another configuration than the model's, with the keys; warn where it may be meant."""
    want, have = detector_options(renamed), detector_options(model.state_dict())
    if getattr(model.backbone, "top_block", None) is None:
        want.pop("MODEL.FPN.TOP_BLOCK", None)
    differing = {key: (value, have.get(key, "something else")) for key, value in want.items() if have.get(key) != value}
    differing |= _resnet_differences(renamed, model)
    if (weights := tuple(model.box2box_transform.weights)) != (1.0,) * 4:
        differing["MODEL.RETINANET.BBOX_REG_WEIGHTS"] = ([1.0] * 4, list(weights))
    meant = _pixel_differences(model)
    if (anchors := type(model.anchor_generator).__name__) != "TorchvisionAnchors":
        meant["MODEL.ANCHOR_GENERATOR.NAME"] = ("TorchvisionAnchors", anchors)
    if _detects(renamed, model):
        # Without training: other anchors, or pixels that nobody chose, would make every detection a little or very wrong.
        untouched = _pixels_untouched(model)
        differing |= {key: values for key, values in meant.items() if key.startswith("MODEL.ANCHOR") or untouched}
    if differing:
        raise ValueError(
            f"these weights are of torchvision's RetinaNet, and the model would compute something else with them; set{_list(differing)}"
        )
    if meant:
        logger.warning(
            "the model differs from what torchvision trains its RetinaNet with, if it is trained as usual:%s",
            _list(meant),
        )


def _detects(renamed: dict[str, Tensor], model: nn.Module) -> bool:
    """Whether a model has both output layers from the file, and so detects without being trained."""
    num_anchors = len(renamed["head.bbox_pred.bias"]) // 4
    if num_anchors != model.anchor_generator.num_anchors[0]:
        return False
    theirs = len(renamed["head.cls_score.bias"]) // num_anchors
    return theirs == model.num_classes or _classes(theirs, model.num_classes) is not None


def _order_outputs(renamed: dict[str, Tensor], model: nn.Module) -> None:
    """Put the output channels of anchors and classes into the model's order, in place."""
    if not hasattr(model.anchor_generator, "anchor_grid"):
        raise ValueError(
            "the order of anchors is not known: set MODEL.ANCHOR_GENERATOR.NAME TorchvisionAnchors or PyramidAnchorGenerator"
        )
    num_sizes, num_ratios = model.anchor_generator.anchor_grid
    num_anchors = len(renamed["head.bbox_pred.bias"]) // 4
    if num_anchors != num_sizes * num_ratios:
        return  # of another shape: both layers start from the beginning, and the checkpointer says so
    num_classes = len(renamed["head.cls_score.bias"]) // num_anchors
    classes = _classes(num_classes, model.num_classes)
    if classes is not None:
        logger.info(
            "of the %d classes of the file the model gets %d: those with the numbers %d to %d",
            num_classes,
            len(classes),
            classes[0],
            classes[-1],
        )
    for part, kept in (("cls_score", classes), ("bbox_pred", None)):
        for kind in ("weight", "bias"):
            tensor = renamed[f"head.{part}.{kind}"]
            by_anchor = tensor.view(num_ratios, num_sizes, -1, *tensor.shape[1:]).transpose(
                0, 1
            )  # (sizes, ratios, K or 4, ...)
            by_anchor = by_anchor if kept is None else by_anchor[:, :, kept]
            renamed[f"head.{part}.{kind}"] = by_anchor.reshape(-1, *tensor.shape[1:])


def _classes(theirs: int, ours: int) -> Tensor | None:
    """Numbers of those classes of a file that the model has, in its order; None for all, or for none."""
    if (theirs, ours) == (COCO_SLOTS, 80):
        return torch.tensor([category["id"] for category in COCO_CATEGORIES if category["isthing"]])
    if theirs == ours + 1:
        return torch.arange(1, theirs)
    return None


def _refuse_leftovers(renamed: dict[str, Tensor], model: nn.Module) -> None:
    """Raise if the file has not all that the model needs, or more than it could have. Other levels and classes are no reason."""
    ours = model.state_dict()
    names = {name for name in ours if name != "loss_normalizer" and not name.endswith("num_batches_tracked")}
    spare = re.compile(
        r"backbone\.(top_block|fpn_lateral|fpn_output|bottom_up)"
    )  # of levels that the model does not have
    problems = [f"{name} is not in the file" for name in sorted(names - set(renamed))]
    problems += [f"{name} has no place in the model" for name in sorted(set(renamed) - names) if not spare.match(name)]
    outputs = ("head.cls_score.", "head.bbox_pred.")
    for name in sorted(names & set(renamed)):
        if renamed[name].shape != ours[name].shape and not name.startswith(outputs):
            problems.append(
                f"{name} is {tuple(renamed[name].shape)} in the file and {tuple(ours[name].shape)} in the model"
            )
    if problems:
        more = f"\n  and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ValueError(
            "the file does not hold the RetinaNet of torchvision that the model is:\n  "
            + "\n  ".join(problems[:8])
            + more
        )
