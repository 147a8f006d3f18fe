"""Weights of torchvision's classifiers and RetinaNets: reorder their outputs, and check that the model fits."""

import logging
import re
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.config import get_cfg
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from retina_plugin.config.pixels import IMAGENET
from retina_plugin.engine.torchvision_names import from_torchvision

logger = logging.getLogger(__name__)

BLOCKS = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
"""Depth of a ResNet by the number of blocks per stage and whether they are bottlenecks (He et al. 2016, table 1)."""

COCO_SLOTS = 91
"""Number of classes of torchvision's COCO models: COCO's category ids up to 90, of which 80 are used, and 0."""

EPSILON_0 = re.compile(r"retinanet_resnet50_fpn_coco-eeacb38b")
"""The one published file whose batch normalisation uses an epsilon of 0 (``overwrite_eps`` in torchvision)."""

SHOWN = 8
"""Largest number of problems in an error message."""

Differences = dict[str, tuple[object, object]]
"""Config keys with the value that a file needs and the value of the model."""


def bottom_up_options(state: dict[str, Tensor], stages: int = 4) -> dict[str, object]:
    """Infer the keys of MODEL.RESNETS from the shapes of a ResNet's weights.

    Args:
        state: tensors by the plugin's names, such as (C, Cin, 3, 3).
        stages: number of stages to look at, from the first; later ones may not be built.

    Returns:
        Config keys and values; {} for any other network.
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
    depths = [
        depth for (all_counts, kind), depth in BLOCKS.items() if (all_counts[:stages], kind) == (counts, bottleneck)
    ]
    statistics = any(name.startswith(f"{prefix}2.") and name.endswith("running_var") for name in state)
    options: dict[str, object] = {
        "MODEL.RESNETS.DEPTH": " or ".join(map(str, depths)) or f"(blocks {counts})",
        "MODEL.RESNETS.NORM": "FrozenBN or BN" if statistics else "something else",
    }
    if bottleneck:
        groups = first.shape[0] // first.shape[1]
        options |= {"MODEL.RESNETS.NUM_GROUPS": groups, "MODEL.RESNETS.WIDTH_PER_GROUP": first.shape[0] // groups}
    return options


def detector_options(state: dict[str, Tensor]) -> dict[str, object]:
    """Infer the keys of neck and head from the shapes of a detector's weights.

    Args:
        state: tensors by the plugin's names, such as (C, Cin, 3, 3).

    Returns:
        Config keys and values.
    """
    laterals = sorted(name for name in state if re.fullmatch(r"backbone\.fpn_lateral\d\.weight", name))
    plain = bool(laterals) and not any(name.startswith("backbone.refine.") for name in state)
    options: dict[str, object] = {"MODEL.FPN.NAME": "fpn without EXTRA_CONVS" if plain else "something else"}
    channels = state[laterals[0]].shape[0] if laterals else None
    if laterals:
        options["MODEL.FPN.OUT_CHANNELS"] = channels
        options["MODEL.FPN.NORM"] = "''" if laterals[0].replace("weight", "norm.weight") not in state else "a norm"
    top_convs = sorted(name for name in state if re.fullmatch(r"backbone\.top_block\.p\d\.weight", name))
    if top_convs:
        options["MODEL.FPN.TOP_BLOCK"] = "conv_p5" if state[top_convs[0]].shape[1] == channels else "conv_c5"
    shared = any(name.startswith("head.subnet.") for name in state)
    options["MODEL.RETINANET.HEAD_NAME"] = "shared_tower" if shared else "retinanet"
    subnet = {name: tensor for name, tensor in state.items() if re.match(r"head\.cls_subnet\..*weight$", name)}
    options["MODEL.RETINANET.NUM_CONVS"] = sum(tensor.ndim == 4 for tensor in subnet.values())
    options["MODEL.RETINANET.NORM"] = "''"
    if any(tensor.ndim == 1 for tensor in subnet.values()):
        statistics = any(name.startswith("head.cls_subnet.") and name.endswith("running_mean") for name in state)
        options["MODEL.RETINANET.NORM"] = "BN" if statistics else "GN"
    return options


def _stride_in_1x1(bottom_up: nn.Module) -> bool | None:
    """Return whether a ResNet's bottlenecks have their stride in the first 1x1 convolution; None for other networks."""
    block: Any = next(iter(getattr(bottom_up, "res3", ())), None)
    return block.conv1.stride == (2, 2) if hasattr(block, "conv3") else None


def _resnet_differences(theirs: dict[str, Tensor], model: Any) -> Differences:
    """Return the keys in which the bottom-up network of a model differs from a file."""
    ours = model.state_dict()
    stages = sum(any(name.startswith(f"backbone.bottom_up.res{stage}.") for name in ours) for stage in range(2, 6))
    want, have = bottom_up_options(theirs, stages), bottom_up_options(ours, stages)
    differing = {key: (value, have.get(key, "something else")) for key, value in want.items() if have.get(key) != value}
    if _stride_in_1x1(model.backbone.bottom_up):
        differing["MODEL.RESNETS.STRIDE_IN_1X1"] = (False, True)
    return differing


def _pixels_of(model: Any) -> tuple[str, list[float], list[float]]:
    """Return the input format of a model, and its pixel mean and standard deviation per channel."""
    mean, std = ([round(x, 3) for x in values.flatten().tolist()] for values in (model.pixel_mean, model.pixel_std))
    return model.input_format, mean, std


def _pixel_differences(model: Any) -> Differences:
    """Return the keys in which a model's pixels differ from those that torchvision's weights were trained with."""
    keys = ("INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD")
    want = (IMAGENET.format, list(IMAGENET.mean), list(IMAGENET.std))
    return {key: (a, b) for key, a, b in zip(keys, want, _pixels_of(model), strict=True) if a != b}


def _pixels_untouched(model: Any) -> bool:
    """Return whether a model's pixels are Detectron2's defaults, so that nobody chose them."""
    cfg = get_cfg()
    return _pixels_of(model) == (cfg.INPUT.FORMAT, list(cfg.MODEL.PIXEL_MEAN), list(cfg.MODEL.PIXEL_STD))


def _list(differing: Differences) -> str:
    """Return one line per key that differs."""
    return "".join(f"\n  {key} {want} (the model has {have})" for key, (want, have) in differing.items())


def adopt_classifier(state: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Return the weights of a ResNet classifier of torchvision for the bottom-up network of ``model``.

    Args:
        state: tensors by name, such as (C, Cin, 3, 3).
        model: the detector.

    Raises:
        ValueError: the model's ResNet is different, or has its strides elsewhere; the message lists the keys to set.
    """
    renamed = from_torchvision(state)
    if differing := _resnet_differences(renamed, model):
        raise ValueError(f"these weights are for a ResNet of torchvision; set{_list(differing)}")
    if differing := _pixel_differences(model):
        logger.warning("torchvision trained these weights with different pixel values:%s", _list(differing))
    return renamed


def adopt_detector(state: dict[str, Tensor], model: Any, file: str = "") -> dict[str, Tensor]:
    """Return the weights of a torchvision RetinaNet, v1 or v2, with which ``model`` detects what torchvision does.

    Not only the names change. torchvision orders anchors by aspect ratio first and Detectron2 by size first, so the
    output channels of both output layers are permuted. Convolutions before a norm have no bias there; here it is 0. Of
    the 91 classes of COCO, a model with 80 gets those that COCO uses, in Detectron2's order; a model with one class
    less than the file gets all but class 0, which torchvision reserves for background.

    Args:
        state: tensors by name, such as (C, Cin, 3, 3).
        model: the detector.
        file: path or URL of the file; the published one of v1 has a different epsilon.

    Raises:
        ValueError: the model would compute something different; the message lists the keys to set. Different anchors
            and pixels are only a warning if the model has to be trained anyway, because its classes or anchors differ.
    """
    names = set(model.state_dict())
    renamed = from_torchvision(state)
    if hasattr(model.backbone.bottom_up, "net"):
        prefix = "backbone.body."
        body = [name for name in state if name.startswith(prefix) and not name.endswith("num_batches_tracked")]
        renamed = {name: tensor for name, tensor in renamed.items() if not name.startswith("backbone.bottom_up.")}
        renamed |= {f"backbone.bottom_up.net.{name.removeprefix(prefix)}": state[name] for name in body}
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


def _refuse_other_models(renamed: dict[str, Tensor], model: Any) -> None:
    """Raise if a file needs a different config, with the keys to set; warn where the difference may be intended."""
    want, have = detector_options(renamed), detector_options(model.state_dict())
    if getattr(model.backbone, "top_block", None) is None:
        want.pop("MODEL.FPN.TOP_BLOCK", None)
    differing = {key: (value, have.get(key, "something else")) for key, value in want.items() if have.get(key) != value}
    differing |= _resnet_differences(renamed, model)
    if (weights := tuple(model.box2box_transform.weights)) != (1.0,) * 4:
        differing["MODEL.RETINANET.BBOX_REG_WEIGHTS"] = ([1.0] * 4, list(weights))
    maybe_intended = _pixel_differences(model)
    if (anchors := type(model.anchor_generator).__name__) != "TorchvisionAnchors":
        maybe_intended["MODEL.ANCHOR_GENERATOR.NAME"] = ("TorchvisionAnchors", anchors)
    if _detects(renamed, model):
        # Used untrained, different anchors, or pixels that nobody chose, make all detections slightly or very wrong.
        untouched = _pixels_untouched(model)
        differing |= {k: values for k, values in maybe_intended.items() if k.startswith("MODEL.ANCHOR") or untouched}
    if differing:
        raise ValueError(
            "these weights are for torchvision's RetinaNet, and this model would compute something different with "
            f"them; set{_list(differing)}"
        )
    if maybe_intended:
        logger.warning(
            "the model differs from the one that torchvision trained these weights for:%s", _list(maybe_intended)
        )


def _detects(renamed: dict[str, Tensor], model: Any) -> bool:
    """Return whether both output layers of a file fit a model, so that it detects without being trained."""
    num_anchors = len(renamed["head.bbox_pred.bias"]) // 4
    if num_anchors != model.anchor_generator.num_anchors[0]:
        return False
    theirs = len(renamed["head.cls_score.bias"]) // num_anchors
    return theirs == model.num_classes or _classes(theirs, model.num_classes) is not None


def _order_outputs(renamed: dict[str, Tensor], model: Any) -> None:
    """Put the output channels of anchors and classes into the model's order, in place."""
    if not hasattr(model.anchor_generator, "anchor_grid"):
        raise ValueError(
            "the order of the model's anchors is unknown; set MODEL.ANCHOR_GENERATOR.NAME to TorchvisionAnchors or "
            "PyramidAnchorGenerator"
        )
    num_sizes, num_ratios = model.anchor_generator.anchor_grid
    num_anchors = len(renamed["head.bbox_pred.bias"]) // 4
    if num_anchors != num_sizes * num_ratios:
        return  # different shapes: both layers are re-initialised, which the checkpointer reports
    num_classes = len(renamed["head.cls_score.bias"]) // num_anchors
    classes = _classes(num_classes, model.num_classes)
    if classes is not None:
        logger.info(
            "of the %d classes in the file, the model uses %d, with ids %d to %d",
            num_classes,
            len(classes),
            classes[0],
            classes[-1],
        )
    for part, kept in (("cls_score", classes), ("bbox_pred", None)):
        for kind in ("weight", "bias"):
            tensor = renamed[f"head.{part}.{kind}"]
            by_anchor = tensor.view(num_ratios, num_sizes, -1, *tensor.shape[1:])
            by_anchor = by_anchor.transpose(0, 1)  # (sizes, ratios, K or 4, ...)
            if kept is not None:
                by_anchor = by_anchor[:, :, kept]
            renamed[f"head.{part}.{kind}"] = by_anchor.reshape(-1, *tensor.shape[1:])


def _classes(theirs: int, ours: int) -> Tensor | None:
    """Return the indices (K,) of the file's classes that the model has, in its order; None if all are used, or none."""
    if (theirs, ours) == (COCO_SLOTS, 80):
        return torch.tensor([category["id"] for category in COCO_CATEGORIES if category["isthing"]])
    if theirs == ours + 1:
        return torch.arange(1, theirs)
    return None


def _refuse_leftovers(renamed: dict[str, Tensor], model: nn.Module) -> None:
    """Raise if tensors are missing in the file or have no place in the model; different levels and classes are fine."""
    ours = model.state_dict()
    names = {name for name in ours if name != "loss_normalizer" and not name.endswith("num_batches_tracked")}
    spare = re.compile(r"backbone\.(top_block|fpn_lateral|fpn_output|bottom_up)")  # levels that the model does not have
    problems = [f"{name} is not in the file" for name in sorted(names - set(renamed))]
    problems += [f"{name} has no place in the model" for name in sorted(set(renamed) - names) if not spare.match(name)]
    outputs = ("head.cls_score.", "head.bbox_pred.")
    for name in sorted(names & set(renamed)):
        if renamed[name].shape != ours[name].shape and not name.startswith(outputs):
            theirs, own = tuple(renamed[name].shape), tuple(ours[name].shape)
            problems.append(f"{name} is {theirs} in the file and {own} in the model")
    if problems:
        if len(problems) > SHOWN:
            problems = [*problems[:SHOWN], f"and {len(problems) - SHOWN} more"]
        raise ValueError("the torchvision RetinaNet in the file is not this model:\n  " + "\n  ".join(problems))
