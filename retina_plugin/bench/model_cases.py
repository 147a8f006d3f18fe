"""Benchmarks of the model: training steps, loss, assignment, post-processing and inference."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.nn import sigmoid_focal_loss_jit
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage

from retina_plugin.bench.implementations import (
    calibrate,
    detectron2_cfg,
    plugin_cfg,
    random_inputs,
    torchvision_inputs,
    torchvision_retinanet,
)
from retina_plugin.bench.measure import Implementation, Work
from retina_plugin.modeling.losses import ClassTargets
from retina_plugin.modeling.losses.classification import FocalLoss

K, SIZE, BATCH = 80, (800, 1216), 2
STRIDES = (8, 16, 32, 64, 128)

FP32_OPTS = ("SOLVER.AMP.ENABLED", False)
COMPILE_OPTS = ("MODEL.COMPILE", ["backbone", "head", "cls_loss"])

Build = Callable[[torch.device], nn.Module]
Detect = Callable[[Any, list[Boxes], list[Tensor], list[Tensor], ImageList], object]


def synthetic_logits(device: torch.device) -> list[Tensor]:
    """Return L x (BATCH, Ri, K) logits distributed like those of a trained head: a few thousand scores above 0.05."""
    generator = torch.Generator(device).manual_seed(0)
    rows = [-(-SIZE[0] // s) * -(-SIZE[1] // s) * 9 for s in STRIDES]
    return [torch.randn(BATCH, r, K, generator=generator, device=device).mul_(1.2).sub_(7) for r in rows]


def synthetic_labels(num_anchors: int, device: torch.device) -> Tensor:
    """Return labels (BATCH, R) with 100 foreground and 200 ignored anchors per image."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.full((BATCH, num_anchors), K)
    for row in labels:
        chosen = torch.randperm(num_anchors, generator=generator)[:300]
        row[chosen[:100]] = torch.randint(0, K, (100,), generator=generator)
        row[chosen[100:]] = -1
    return labels.to(device)


# --- training ----------------------------------------------------------------------------------


@functools.cache
def random_weights(device: str) -> dict[str, Tensor]:
    """Return the state dict of Detectron2's RetinaNet R-50 with calibrated random weights."""
    torch.manual_seed(0)
    model = build_model(detectron2_cfg(num_classes=K, device=device))
    return calibrate(model, random_inputs((512, 512), batch=1, num_boxes=1))


def detectron2_model(device: torch.device) -> nn.Module:
    """Build Detectron2's unmodified RetinaNet R-50."""
    model = build_model(detectron2_cfg(num_classes=K, device=device.type))
    model.load_state_dict(random_weights(device.type))
    return model


def plugin_model(*opts: Any) -> Build:
    """Return a function that builds the plugin's RetinaNet R-50 with the same weights.

    Args:
        opts: further config options, KEY, VALUE, ...
    """

    def build(device: torch.device) -> nn.Module:
        """Build the model on a device."""
        model = build_model(plugin_cfg(*opts, num_classes=K, device=device.type))
        model.load_state_dict(random_weights(device.type), strict=False)
        return model

    return build


def training_inputs(device: torch.device) -> list[dict]:
    """Return two images of 512 x 512 with seven boxes each, about COCO's mean."""
    return random_inputs((512, 512), batch=2, num_boxes=7, num_classes=K)


def train_step(build: Build) -> Implementation:
    """Return an implementation: forward and backward pass of a model, without the optimizer."""

    def prepare(device: torch.device) -> Work:
        """Build the model and its inputs."""
        model, inputs = build(device).train(), training_inputs(device)

        def step() -> None:
            """Compute the losses and the gradients."""
            with EventStorage():
                sum(model(inputs).values()).backward()
            model.zero_grad(set_to_none=True)

        return step

    return prepare


def torchvision_step(device: torch.device) -> Work:
    """Prepare forward and backward pass of torchvision's model."""
    model = torchvision_retinanet(size=512, num_classes=K).to(device).train()
    images, targets = torchvision_inputs(training_inputs(device))

    def step() -> None:
        """Compute the losses and the gradients."""
        losses = model([x.to(device) for x in images], [{k: v.to(device) for k, v in t.items()} for t in targets])
        sum(losses.values()).backward()
        model.zero_grad(set_to_none=True)

    return step


# --- loss, assignment, post-processing ----------------------------------------------------------


def loss(function: Callable[[list[Tensor], Tensor], Tensor]) -> Implementation:
    """Return an implementation: a classification loss and its gradients.

    Args:
        function: loss of logits L x (N, Ri, K) and labels (N, R).
    """

    def prepare(device: torch.device) -> Work:
        """Build the logits and the labels."""
        logits = [x.requires_grad_() for x in synthetic_logits(device)]
        labels = synthetic_labels(sum(x.shape[1] for x in logits), device)

        def work() -> None:
            """Compute the loss and the gradients."""
            function(logits, labels).backward()
            for x in logits:
                x.grad = None

        return work

    return prepare


def detectron2_focal_loss(logits: list[Tensor], labels: Tensor) -> Tensor:
    """Compute the classification loss () as Detectron2's RetinaNet does, with one-hot targets of valid anchors.

    Args:
        logits: L x (N, Ri, K).
        labels: (N, R).
    """
    valid = labels >= 0
    target = F.one_hot(labels[valid], num_classes=K + 1)[:, :-1].to(logits[0].dtype)
    return sigmoid_focal_loss_jit(torch.cat(logits, dim=1)[valid], target, alpha=0.25, gamma=2.0, reduction="sum")


def plugin_focal_loss(compiled: bool) -> Callable[[list[Tensor], Tensor], Tensor]:
    """Return the plugin's loss of logits L x (N, Ri, K) and labels (N, R), with the same α and γ."""
    focal_loss = FocalLoss(alpha=0.25, gamma=2.0)
    if compiled:
        focal_loss.compile()
    return lambda logits, labels: focal_loss(logits, ClassTargets(labels=labels))


def _anchors_of(model: Any, device: torch.device) -> list[Boxes]:
    """Return the model's anchors of each level, for images of ``SIZE``."""
    return model.anchor_generator(
        [torch.zeros(1, 1, -(-SIZE[0] // s), -(-SIZE[1] // s), device=device) for s in STRIDES]
    )


def _instances(num_boxes: int, device: torch.device) -> list[Instances]:
    """Return random ground truth of BATCH images."""
    return [x["instances"].to(device) for x in random_inputs(SIZE, batch=BATCH, num_boxes=num_boxes, num_classes=K)]


def detectron2_assignment(num_boxes: int) -> Implementation:
    """Return Detectron2's labelling of all anchors, with so many boxes per image."""

    def prepare(device: torch.device) -> Work:
        """Build the anchors and the boxes."""
        model: Any = build_model(detectron2_cfg(depth=18, num_classes=K, device=device.type))
        anchors, instances = _anchors_of(model, device), _instances(num_boxes, device)
        return lambda: model.label_anchors(anchors, instances)

    return prepare


def plugin_assignment(num_boxes: int) -> Implementation:
    """Return the plugin's labelling of all anchors, with so many boxes per image."""

    def prepare(device: torch.device) -> Work:
        """Build the anchors and the boxes."""
        model: Any = build_model(plugin_cfg(depth=18, num_classes=K, device=device.type))
        anchors, instances = [x.tensor for x in _anchors_of(model, device)], _instances(num_boxes, device)
        boxes, classes = [x.gt_boxes.tensor for x in instances], [x.gt_classes for x in instances]
        return lambda: model.assigner(anchors, boxes, classes, K)

    return prepare


def postprocess(cfg_of: Callable[[str], CfgNode], detect: Detect) -> Implementation:
    """Return the post-processing of synthetic logits and deltas.

    Args:
        cfg_of: config of the model, by device.
        detect: function of the model, the anchors, the logits, the deltas and the images.
    """

    def prepare(device: torch.device) -> Work:
        """Build the model and its raw outputs."""
        model = build_model(cfg_of(device.type)).eval()
        logits, anchors = synthetic_logits(device), _anchors_of(model, device)
        generator = torch.Generator(device).manual_seed(1)
        deltas = [torch.randn(BATCH, x.shape[1], 4, generator=generator, device=device).mul_(0.2) for x in logits]
        images = ImageList(torch.zeros(BATCH, 3, *SIZE, device=device), [SIZE] * BATCH)
        return torch.no_grad()(lambda: detect(model, anchors, logits, deltas, images))

    return prepare


def detectron2_detections(
    model: Any, anchors: list[Boxes], logits: list[Tensor], deltas: list[Tensor], images: ImageList
) -> None:
    """Post-process logits L x (N, Ri, K) and deltas L x (N, Ri, 4) as Detectron2's RetinaNet does."""
    for i, size in enumerate(images.image_sizes):
        # Its forward_inference takes the sigmoid in place; here it is that of a copy, as the next run needs the logits.
        model.inference_single_image(anchors, [x[i].sigmoid() for x in logits], [x[i] for x in deltas], size)


def plugin_detections(
    model: Any, anchors: list[Boxes], logits: list[Tensor], deltas: list[Tensor], images: ImageList
) -> None:
    """Post-process logits L x (N, Ri, K) and deltas L x (N, Ri, 4) with the plugin's model."""
    model.inference(anchors, logits, deltas, images, [{"height": h, "width": w} for h, w in images.image_sizes])


# --- inference -----------------------------------------------------------------------------------


def photograph() -> np.ndarray:
    """Return an image (480, 640, 3) uint8, BGR, with the smooth shades and the grain of a photograph."""
    y, x = np.mgrid[:480, :640].astype(np.float32)
    waves = [50 * np.sin(x / (31 + 9 * c)) * np.cos(y / (23 + 5 * c)) for c in range(3)]
    shades = [128 + wave + 30 * np.sin((x + y) / 90) for wave in waves]
    grain = np.random.default_rng(0).normal(0, 8, (480, 640, 3))
    return (np.stack(shades, axis=2) + grain).clip(0, 255).astype(np.uint8)


def predictor(cfg_of: Callable[[str], CfgNode]) -> Implementation:
    """Return Detectron2's ``DefaultPredictor``: from an image array, resized to 800 x 1066, to ``Instances``."""

    def prepare(device: torch.device) -> Work:
        """Build the predictor from a file of weights."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights.pth"
            torch.save({"model": random_weights(device.type)}, file)
            cfg = cfg_of(device.type).clone()
            cfg.defrost()
            cfg.MODEL.WEIGHTS = str(file)
            predict = DefaultPredictor(cfg)
        image = photograph()
        return lambda: predict(image)

    return prepare


def batched(build: Build) -> Implementation:
    """Return the inference of four images at once."""

    def prepare(device: torch.device) -> Work:
        """Build the model and its inputs."""
        model, inputs = build(device).eval(), random_inputs((800, 1066), batch=4, num_boxes=1)
        return torch.no_grad()(lambda: model(inputs))

    return prepare


def torchvision_inference(batch: int) -> Implementation:
    """Return torchvision's inference of the photograph, or of a batch of random images."""

    def prepare(device: torch.device) -> Work:
        """Build the model and its inputs."""
        model = torchvision_retinanet(size=800, num_classes=K).to(device).eval()
        if batch == 1:
            images = [torch.from_numpy(photograph()).permute(2, 0, 1).flip(0).float() / 255]
        else:
            images, _ = torchvision_inputs(random_inputs((800, 1066), batch=batch, num_boxes=1))
        return torch.no_grad()(lambda: model([x.to(device) for x in images]))

    return prepare


def cfg_detectron2(device: str) -> CfgNode:
    """Return the config of Detectron2's RetinaNet R-50."""
    return detectron2_cfg(num_classes=K, device=device)


def cfg_plugin(*opts: Any) -> Callable[[str], CfgNode]:
    """Return a function from a device to the config of the plugin's RetinaNet R-50 with further options."""
    return lambda device: plugin_cfg(*opts, num_classes=K, device=device)
