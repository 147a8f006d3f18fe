"""What is measured: each case is the same work by several sides, the first of which is the reference."""

import contextlib
import functools
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from fvcore.nn import sigmoid_focal_loss_jit
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import Boxes, BoxMode, ImageList
from detectron2.utils.events import EventStorage

from retina_plugin.bench.dataset_start import CORNERS, detectron2_reads, generated_coco, plugin_reads
from retina_plugin.bench.measure import Work
from retina_plugin.bench.implementations import (
    calibrate,
    detectron2_cfg,
    plugin_cfg,
    random_inputs,
    torchvision_inputs,
    torchvision_retinanet,
)
from retina_plugin.data.mapper import CvResizeShortestEdge, RetinaMapper
from retina_plugin.modeling.losses import ClassTargets
from retina_plugin.modeling.losses.classification import FocalLoss

K, SIZE, BATCH = 80, (800, 1216), 2
DETECTRON2, TORCHVISION, FP32, DEFAULT, COMPILED = (
    "Detectron2",
    "torchvision",
    "plugin, fp32",
    "plugin",
    "plugin, compiled",
)
STRIDES = (8, 16, 32, 64, 128)

Side = Callable[[torch.device], Work]


@dataclass(frozen=True)
class Case:
    """The same work by several sides.

    Args:
        title: what is done, for the table.
        sides: by name, a function that prepares everything on a device and returns what to time.
    """

    title: str
    sides: dict[str, Side]


def synthetic_logits(device: torch.device) -> list[Tensor]:
    """L x (BATCH, Ri, K) logits in the layout that convolutions write, as a trained head spreads them: a few thousand above 0.05."""
    generator = torch.Generator(device).manual_seed(0)
    rows = [-(-SIZE[0] // s) * -(-SIZE[1] // s) * 9 for s in STRIDES]
    return [torch.randn(BATCH, r, K, generator=generator, device=device).mul_(1.2).sub_(7) for r in rows]


def synthetic_labels(num_anchors: int, device: torch.device) -> Tensor:
    """(BATCH, R) labels: 100 foreground and 200 ignored anchors an image."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.full((BATCH, num_anchors), K)
    for row in labels:
        chosen = torch.randperm(num_anchors, generator=generator)[:300]
        row[chosen[:100]] = torch.randint(0, K, (100,), generator=generator)
        row[chosen[100:]] = -1
    return labels.to(device)


# --- training ----------------------------------------------------------------------------------


@functools.cache
def _weights(device: str) -> dict[str, Tensor]:
    """State dict of Detectron2's RetinaNet R-50 with random weights that behave."""
    torch.manual_seed(0)
    model = build_model(detectron2_cfg(num_classes=K, device=device))
    return calibrate(model, random_inputs((512, 512), batch=1, num_boxes=1))


def detectron2_model(device: torch.device) -> nn.Module:
    """Detectron2's RetinaNet R-50, as it comes."""
    model = build_model(detectron2_cfg(num_classes=K, device=device.type))
    model.load_state_dict(_weights(device.type))
    return model


def plugin_model(*opts) -> Callable[[torch.device], nn.Module]:
    """The plugin's, with the same weights."""

    def build(device: torch.device) -> nn.Module:
        model = build_model(plugin_cfg(*opts, num_classes=K, device=device.type))
        model.load_state_dict(_weights(device.type), strict=False)
        return model

    return build


FP32_OPTS = ("SOLVER.AMP.ENABLED", False)
COMPILE_OPTS = ("MODEL.COMPILE", ["backbone", "head", "cls_loss"])


def training_inputs(device: torch.device) -> list[dict]:
    """Two images of 512 x 512 with seven boxes each, about COCO's mean."""
    return random_inputs((512, 512), batch=2, num_boxes=7, num_classes=K)


def _train_step(build: Callable[[torch.device], nn.Module]) -> Side:
    def prepare(device: torch.device) -> Work:
        model, inputs = build(device).train(), training_inputs(device)

        def step() -> None:
            with EventStorage():
                sum(model(inputs).values()).backward()
            model.zero_grad(set_to_none=True)

        return step

    return prepare


def _torchvision_step(device: torch.device) -> Work:
    model = torchvision_retinanet(size=512, num_classes=K).to(device).train()
    images, targets = torchvision_inputs(training_inputs(device))

    def step() -> None:
        losses = model([x.to(device) for x in images], [{k: v.to(device) for k, v in t.items()} for t in targets])
        sum(losses.values()).backward()
        model.zero_grad(set_to_none=True)

    return step


# --- loss, assignment, post-processing ----------------------------------------------------------


def _loss(function: Callable[[list[Tensor], Tensor], Tensor]) -> Side:
    def prepare(device: torch.device) -> Work:
        logits = [x.requires_grad_() for x in synthetic_logits(device)]
        labels = synthetic_labels(sum(x.shape[1] for x in logits), device)

        def work() -> None:
            function(logits, labels).backward()
            for x in logits:
                x.grad = None

        return work

    return prepare


def detectron2_focal_loss(logits: list[Tensor], labels: Tensor) -> Tensor:
    """What Detectron2's RetinaNet does for its classification loss: one-hot targets of the anchors that count."""
    valid = labels >= 0
    target = F.one_hot(labels[valid], num_classes=K + 1)[:, :-1].to(logits[0].dtype)
    return sigmoid_focal_loss_jit(torch.cat(logits, dim=1)[valid], target, alpha=0.25, gamma=2.0, reduction="sum")


def plugin_focal_loss(compiled: bool) -> Callable[[list[Tensor], Tensor], Tensor]:
    """The plugin's, with the same α and γ."""
    loss = FocalLoss(alpha=0.25, gamma=2.0)
    if compiled:
        loss.compile()
    return lambda logits, labels: loss(logits, ClassTargets(labels=labels))


def _anchors_of(model: nn.Module, device: torch.device) -> list[Boxes]:
    return model.anchor_generator(
        [torch.zeros(1, 1, -(-SIZE[0] // s), -(-SIZE[1] // s), device=device) for s in STRIDES]
    )


def _instances(num_boxes: int, device: torch.device) -> list:
    return [x["instances"].to(device) for x in random_inputs(SIZE, batch=BATCH, num_boxes=num_boxes, num_classes=K)]


def _detectron2_assignment(num_boxes: int) -> Side:
    def prepare(device: torch.device) -> Work:
        model = build_model(detectron2_cfg(depth=18, num_classes=K, device=device.type))
        anchors, instances = _anchors_of(model, device), _instances(num_boxes, device)
        return lambda: model.label_anchors(anchors, instances)

    return prepare


def _plugin_assignment(num_boxes: int) -> Side:
    def prepare(device: torch.device) -> Work:
        model = build_model(plugin_cfg(depth=18, num_classes=K, device=device.type))
        anchors, instances = [x.tensor for x in _anchors_of(model, device)], _instances(num_boxes, device)
        boxes, classes = [x.gt_boxes.tensor for x in instances], [x.gt_classes for x in instances]
        return lambda: model.assigner(anchors, boxes, classes, K)

    return prepare


def _postprocess(cfg_of: Callable[[str], CfgNode], call: Callable) -> Side:
    def prepare(device: torch.device) -> Work:
        model = build_model(cfg_of(device.type)).eval()
        logits, anchors = synthetic_logits(device), _anchors_of(model, device)
        generator = torch.Generator(device).manual_seed(1)
        deltas = [torch.randn(BATCH, x.shape[1], 4, generator=generator, device=device).mul_(0.2) for x in logits]
        images = ImageList(torch.zeros(BATCH, 3, *SIZE, device=device), [SIZE] * BATCH)
        return torch.no_grad()(lambda: call(model, anchors, logits, deltas, images))

    return prepare


def _detectron2_detections(
    model: nn.Module, anchors: list[Boxes], logits: list[Tensor], deltas: list[Tensor], images: ImageList
) -> None:
    for i, size in enumerate(images.image_sizes):
        # As its forward_inference does, which takes the sigmoid in place: here of a copy, that the next run finds logits.
        model.inference_single_image(anchors, [x[i].sigmoid() for x in logits], [x[i] for x in deltas], size)


def _plugin_detections(
    model: nn.Module, anchors: list[Boxes], logits: list[Tensor], deltas: list[Tensor], images: ImageList
) -> None:
    model.inference(anchors, logits, deltas, images, [{"height": h, "width": w} for h, w in images.image_sizes])


# --- inference -----------------------------------------------------------------------------------


def photograph() -> np.ndarray:
    """A 480 x 640 BGR image with the smooth shades and the grain of a photograph."""
    y, x = np.mgrid[:480, :640].astype(np.float32)
    shades = [
        128 + 50 * np.sin(x / (31 + 9 * c)) * np.cos(y / (23 + 5 * c)) + 30 * np.sin((x + y) / 90) for c in range(3)
    ]
    grain = np.random.default_rng(0).normal(0, 8, (480, 640, 3))
    return (np.stack(shades, axis=2) + grain).clip(0, 255).astype(np.uint8)


def _predictor(cfg_of: Callable[[str], CfgNode]) -> Side:
    """Detectron2's ``DefaultPredictor``: an image array in, resized to 800 x 1066, ``Instances`` out."""

    def prepare(device: torch.device) -> Work:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights.pth"
            torch.save({"model": _weights(device.type)}, file)
            cfg = cfg_of(device.type).clone()
            cfg.defrost()
            cfg.MODEL.WEIGHTS = str(file)
            predictor = DefaultPredictor(cfg)
        image = photograph()
        return lambda: predictor(image)

    return prepare


def _batched(build: Callable[[torch.device], nn.Module]) -> Side:
    def prepare(device: torch.device) -> Work:
        model, inputs = build(device).eval(), random_inputs((800, 1066), batch=4, num_boxes=1)
        return torch.no_grad()(lambda: model(inputs))

    return prepare


def _torchvision_inference(batch: int) -> Side:
    def prepare(device: torch.device) -> Work:
        model = torchvision_retinanet(size=800, num_classes=K).to(device).eval()
        if batch == 1:
            images = [torch.from_numpy(photograph()).permute(2, 0, 1).flip(0).float() / 255]
        else:
            images, _ = torchvision_inputs(random_inputs((800, 1066), batch=batch, num_boxes=1))
        return torch.no_grad()(lambda: model([x.to(device) for x in images]))

    return prepare


# --- data and evaluation -------------------------------------------------------------------------


def _mapper(make: Callable[[], Callable[[dict], dict]]) -> Side:
    def prepare(device: torch.device) -> Work:
        file = Path(tempfile.mkdtemp()) / "photo.jpg"
        cv2.imwrite(str(file), photograph(), [cv2.IMWRITE_JPEG_QUALITY, 90])
        box = {"bbox": [10.0, 20.0, 200.0, 150.0], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, "iscrowd": 0}
        record = {"file_name": str(file), "height": 480, "width": 640, "image_id": 1, "annotations": [box] * 7}
        mapper = make()
        return lambda: mapper(record)

    return prepare


def evaluation_data(num_images: int = 5000, detections_per_image: int = 100) -> tuple[dict, np.ndarray]:
    """Ground truth of the size of COCO's val (7 boxes an image, 80 classes), and detections half of which are near a box."""
    rng = np.random.default_rng(0)
    images = [{"id": i + 1, "width": 640, "height": 480, "file_name": f"{i}.jpg"} for i in range(num_images)]
    categories = [{"id": k + 1, "name": str(k)} for k in range(K)]
    size = np.exp(rng.uniform(np.log(8), np.log(300), (num_images, 7, 2)))
    boxes = np.concatenate(
        [rng.uniform(0, 1, (num_images, 7, 2)) * (np.array([640, 480]) - size.clip(max=400)), size], axis=2
    )
    classes = rng.integers(1, K + 1, (num_images, 7))
    annotations = [
        {
            "id": i * 7 + j + 1,
            "image_id": i + 1,
            "category_id": int(classes[i, j]),
            "bbox": boxes[i, j].tolist(),
            "area": float(size[i, j].prod()),
            "iscrowd": 0,
        }
        for i in range(num_images)
        for j in range(7)
    ]
    chosen = rng.integers(0, 7, (num_images, detections_per_image))
    near = rng.random((num_images, detections_per_image)) < 0.5
    rows = np.empty((num_images, detections_per_image, 7))
    rows[..., 0] = np.arange(1, num_images + 1)[:, None]
    rows[..., 1:5] = np.take_along_axis(boxes, chosen[..., None], axis=1) + rng.normal(
        0, 3, (num_images, detections_per_image, 4)
    )
    rows[..., 3:5] = rows[..., 3:5].clip(min=2)
    rows[~near, 1:3] = rng.uniform(0, 300, (int((~near).sum()), 2))
    rows[..., 5] = rng.random((num_images, detections_per_image))
    rows[..., 6] = np.where(near, np.take_along_axis(classes, chosen, axis=1), rng.integers(1, K + 1, near.shape))
    return {"images": images, "categories": categories, "annotations": annotations}, rows.reshape(-1, 7)


def _evaluation(engine: str) -> Side:
    def prepare(device: torch.device) -> Work:
        if engine == "hotcoco":
            from hotcoco import COCO, COCOeval
        else:
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        truth, rows = evaluation_data()
        file = Path(tempfile.mkdtemp()) / "truth.json"
        file.write_text(json.dumps(truth), encoding="utf-8")

        def work() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                ground_truth = COCO(str(file))
                coco_eval = COCOeval(ground_truth, ground_truth.loadRes(rows.copy()), "bbox")
                coco_eval.evaluate()
                coco_eval.accumulate()
                coco_eval.summarize()

        return work

    return prepare


def _dataset_start(read: Callable[[Path], list[dict]], *, corners: int = 0) -> Side:
    def prepare(device: torch.device) -> Work:
        folder = generated_coco(corners=corners)
        return lambda: read(folder)

    return prepare


def _cfg_detectron2(device: str) -> CfgNode:
    return detectron2_cfg(num_classes=K, device=device)


def _cfg_plugin(*opts) -> Callable[[str], CfgNode]:
    return lambda device: plugin_cfg(*opts, num_classes=K, device=device)


CASES = {
    "train_step": Case(
        "training step, R-50, 2 images of 512 x 512, K = 80",
        {
            DETECTRON2: _train_step(detectron2_model),
            TORCHVISION: _torchvision_step,
            FP32: _train_step(plugin_model(*FP32_OPTS)),
            DEFAULT: _train_step(plugin_model()),
        },
    ),
    "train_step_compiled": Case(
        "the same, compiled (MODEL.COMPILE)",
        {
            DETECTRON2: _train_step(detectron2_model),
            FP32: _train_step(plugin_model(*FP32_OPTS, *COMPILE_OPTS)),
            DEFAULT: _train_step(plugin_model(*COMPILE_OPTS)),
        },
    ),
    "loss": Case(
        "classification loss, forward and backward, 2 images of 800 x 1216, K = 80",
        {
            DETECTRON2: _loss(detectron2_focal_loss),
            DEFAULT: _loss(plugin_focal_loss(False)),
        },
    ),
    "loss_compiled": Case(
        "the same, compiled", {DETECTRON2: _loss(detectron2_focal_loss), COMPILED: _loss(plugin_focal_loss(True))}
    ),
    "assign_100": Case(
        "assignment, 2 images of 800 x 1216, 100 boxes each",
        {DETECTRON2: _detectron2_assignment(100), DEFAULT: _plugin_assignment(100)},
    ),
    "assign_1000": Case(
        "assignment, 2 images of 800 x 1216, 1,000 boxes each",
        {DETECTRON2: _detectron2_assignment(1000), DEFAULT: _plugin_assignment(1000)},
    ),
    "inference": Case(
        "inference, array of 480 x 640 in, 800 x 1066 through R-50, Instances out",
        {
            DETECTRON2: _predictor(_cfg_detectron2),
            TORCHVISION: _torchvision_inference(1),
            FP32: _predictor(_cfg_plugin(*FP32_OPTS)),
            DEFAULT: _predictor(_cfg_plugin()),
        },
    ),
    "inference_batch": Case(
        "inference, 4 images of 800 x 1066 at once",
        {
            DETECTRON2: _batched(detectron2_model),
            TORCHVISION: _torchvision_inference(4),
            FP32: _batched(plugin_model(*FP32_OPTS)),
            DEFAULT: _batched(plugin_model()),
        },
    ),
    "postprocess": Case(
        "post-processing, 2 images of 800 x 1216, K = 80",
        {
            DETECTRON2: _postprocess(_cfg_detectron2, _detectron2_detections),
            DEFAULT: _postprocess(_cfg_plugin(), _plugin_detections),
        },
    ),
    "mapper": Case(
        "mapper, JPEG of 480 x 640 to a shorter side of 800",
        {
            DETECTRON2: _mapper(
                lambda: DatasetMapper(
                    is_train=True, augmentations=[T.ResizeShortestEdge(800, 1333), T.RandomFlip()], image_format="BGR"
                )
            ),
            DEFAULT: _mapper(
                lambda: RetinaMapper(
                    augmentations=[CvResizeShortestEdge(800, 1333), T.RandomFlip()], image_format="BGR", is_train=True
                )
            ),
        },
    ),
    "evaluation": Case(
        "COCO evaluation, 5,000 images with 100 detections each, loading included",
        {
            "pycocotools": _evaluation("pycocotools"),
            DEFAULT: _evaluation("hotcoco"),
        },
    ),
    "dataset_start": Case(
        "start on a COCO JSON of 118,287 images and 860,001 boxes",
        {
            "Detectron2, reading": _dataset_start(detectron2_reads),
            "plugin, reading": _dataset_start(functools.partial(plugin_reads, look=False)),
            "plugin, reading and looking at every image": _dataset_start(functools.partial(plugin_reads, look=True)),
        },
    ),
    "dataset_start_polygons": Case(
        "the same, with a polygon of 12 corners for each box",
        {
            "Detectron2, reading": _dataset_start(detectron2_reads, corners=CORNERS),
            "plugin, reading": _dataset_start(functools.partial(plugin_reads, look=False), corners=CORNERS),
        },
    ),
}
"""Cases by the name that ``retina bench --cases`` takes."""
