"""The compared detectors, with equal weights and settings; no data or downloads are needed."""

from typing import Any

import torch
from torch import nn
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.retinanet import _default_anchorgen  # its nine anchors have no public name
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detectron2.config import CfgNode, get_cfg
from detectron2.structures import Boxes, Instances

from retina_plugin.config import load_config
from retina_plugin.paths import shipped

IMAGE_STD = 60.0
"""About the standard deviation of a photograph's pixel values, for random images."""


def detectron2_cfg(*, depth: int = 50, num_classes: int = 80, device: str = "cpu") -> CfgNode:
    """Return the config of Detectron2's own RetinaNet with the paper's settings, as in its Base-RetinaNet.yaml."""
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.DEVICE = device
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RESNETS.DEPTH = depth
    if depth < 50:
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[x, x * 2 ** (1 / 3), x * 2 ** (2 / 3)] for x in (32, 64, 128, 256, 512)]
    cfg.MODEL.RETINANET.IOU_THRESHOLDS = [0.4, 0.5]
    cfg.MODEL.RETINANET.IOU_LABELS = [0, -1, 1]
    cfg.MODEL.RETINANET.SMOOTH_L1_LOSS_BETA = 0.0
    cfg.MODEL.RETINANET.NUM_CLASSES = num_classes
    return cfg


def plugin_cfg(*opts: Any, depth: int = 50, num_classes: int = 80, device: str = "cpu") -> CfgNode:
    """Return the config of the same detector of the plugin.

    Args:
        opts: further options, KEY, VALUE, ...
        depth: layers of the ResNet.
        num_classes: K.
        device: MODEL.DEVICE.
    """
    model = ["MODEL.DEVICE", device, "MODEL.RESNETS.DEPTH", depth, "MODEL.RETINANET.NUM_CLASSES", num_classes]
    weights = ["MODEL.WEIGHTS", "given later"]
    return load_config(shipped("configs/Base-RetinaNet.yaml"), [*model, *weights, *opts])


@torch.no_grad()
def calibrate(model: nn.Module, inputs: list[dict]) -> dict[str, torch.Tensor]:
    """Scale the random weights of Detectron2's RetinaNet so that activations stay in range, scores and deltas vary.

    Args:
        model: the detector; its weights are changed in place.
        inputs: dataset dicts with "image" (3, H, W).

    Returns:
        Its state dict, for the other implementations.
    """
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith("norm.weight"):
            value.fill_(0.5)
    detector: Any = model.eval()  # the methods of Detectron2's RetinaNet are unknown to nn.Module
    images = detector.preprocess_image(inputs)
    features = detector.backbone(images.tensor)
    logits, deltas = detector.head([features[name] for name in detector.head_in_features])
    state["head.cls_score.weight"] /= torch.cat([x.flatten() for x in logits]).std()
    state["head.bbox_pred.weight"] *= 0.2 / torch.cat([x.flatten() for x in deltas]).std()
    return state


def torchvision_retinanet(*, size: int, num_classes: int = 80) -> TorchvisionRetinaNet:
    """Build torchvision's ``retinanet_resnet50_fpn`` with random weights.

    It is frozen like Detectron2's: stem, res2 and all BatchNorms.

    Args:
        size: shorter side to which it resizes images, with at most 1333 for the longer one.
        num_classes: K.
    """
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=3,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    model = TorchvisionRetinaNet(
        backbone, num_classes, anchor_generator=_default_anchorgen(), min_size=size, max_size=1333
    )
    for name, buffer in model.named_buffers():
        if ".bn" in name and name.endswith("weight"):
            buffer.fill_(0.5)
    return model


def random_inputs(
    size: tuple[int, int], *, batch: int, num_boxes: int, num_classes: int = 80, seed: int = 0
) -> list[dict]:
    """Return Detectron2's dataset dicts with images of noise and boxes from 16 px to half of the image.

    Args:
        size: (height, width).
        batch: N.
        num_boxes: M of each image.
        num_classes: K.
        seed: of the images and boxes.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    inputs = []
    for _ in range(batch):
        noise = torch.randn(3, height, width, generator=generator)
        image = noise.mul_(IMAGE_STD).add_(120).clamp_(0, 255).to(torch.uint8)
        extent = torch.exp(torch.rand(num_boxes, 2, generator=generator) * 3).mul_(16).clamp_(max=min(size) / 2)
        corner = torch.rand(num_boxes, 2, generator=generator) * (torch.tensor([width, height]) - extent)
        instances = Instances(size, gt_boxes=Boxes(torch.cat([corner, corner + extent], dim=1)))
        instances.gt_classes = torch.randint(0, num_classes, (num_boxes,), generator=generator)
        inputs.append({"image": image, "instances": instances, "height": height, "width": width})
    return inputs


def torchvision_inputs(inputs: list[dict]) -> tuple[list[torch.Tensor], list[dict]]:
    """Convert dataset dicts to torchvision's images (3, H, W), RGB in 0..1, and targets with boxes (M, 4) XYXY."""
    images = [x["image"].flip(0).float() / 255 for x in inputs]
    return images, [{"boxes": x["instances"].gt_boxes.tensor, "labels": x["instances"].gt_classes} for x in inputs]
