"""A loss with an option, a neck, an assigner and an annotation format: imported, they are names that configs and cards know."""

import os

import torch
from torch.nn import functional as F

from detectron2.modeling.backbone import FPN

from retina_plugin.extend import (
    ASSIGNER_REGISTRY,
    CLS_LOSS_REGISTRY,
    FORMAT_REGISTRY,
    NECK_REGISTRY,
    AnnotationFormat,
    Found,
    Number,
    Option,
    reads,
)


@CLS_LOSS_REGISTRY.register(
    "tempered", options=[Option("temperature", Number(float, 0, open_low=True), 1.0, "Logits are divided by it.")]
)
@reads("MODEL.RETINANET.FOCAL_LOSS_GAMMA")
class TemperedFocalLoss:
    """Focal loss of logits / temperature, a sum over all anchors that are not ignored."""

    def __init__(self, *, gamma, temperature):
        self.gamma, self.temperature = gamma, temperature

    def __call__(self, pred_logits, targets):
        x = torch.cat(pred_logits, dim=1).float() / self.temperature  # (N, R, K)
        is_class = F.one_hot(targets.labels.clamp(min=0), x.shape[-1] + 1)[..., :-1].to(
            x
        )  # background, K, has no column
        loss = F.binary_cross_entropy_with_logits(x, is_class, reduction="none")
        p_t = torch.exp(-loss)
        return ((1 - p_t) ** self.gamma * loss)[targets.labels >= 0].sum()


@NECK_REGISTRY.register("average_fpn")
def build_average_fpn(cfg, bottom_up, in_features, top_block):
    """A feature pyramid network that joins levels by their mean."""
    return FPN(bottom_up, in_features, cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.FPN.NORM, top_block, fuse_type="avg")


@ASSIGNER_REGISTRY.register(
    "centre",
    options=[Option("radius", Number(float, 0, 1, open_low=True), 0.5, "Half side of the part of a box.", "box sides")],
)
class CentreAssigner:
    """An anchor is foreground if its centre lies in the middle part of a box and their sizes differ by less than a factor of 2."""

    def __init__(self, *, radius):
        self.radius = radius

    def __call__(self, anchors, gt_boxes, gt_classes, num_classes):
        anchors = torch.cat(anchors)
        gt_labels = anchors.new_full((len(gt_boxes), len(anchors)), num_classes, dtype=torch.int64)
        matched_idxs, start = torch.zeros_like(gt_labels), 0
        centres, sides = (anchors[:, :2] + anchors[:, 2:]) / 2, (anchors[:, 2:] - anchors[:, :2]).prod(1).sqrt()
        for i, (boxes, classes) in enumerate(zip(gt_boxes, gt_classes)):
            for j, (box, label) in enumerate(zip(boxes, classes)):
                near = ((centres - (box[:2] + box[2:]) / 2).abs() < self.radius * (box[2:] - box[:2])).all(1)
                alike = (sides / (box[2:] - box[:2]).prod().sqrt()).log2().abs() < 1
                gt_labels[i, near & alike], matched_idxs[i, near & alike] = label, start + j
            start += len(boxes)
        return gt_labels, matched_idxs


@FORMAT_REGISTRY.register("boxes_txt")
class BoxesText(AnnotationFormat):
    """Files ``*.boxes`` of lines "image class left top right bottom", one file a split, called as it."""

    name, title = "boxes_txt", "lines of boxes"

    def recognise(self, listing):
        found = Found()
        for file in listing.with_suffix(".boxes"):
            lines = listing.path(file).read_text(encoding="utf-8").splitlines()
            found.add(
                os.path.splitext(file)[0], {"annotations": file}, [file], sorted({line.split()[1] for line in lines})
            )
        return found

    def read(self, source, reading):
        file = reading.path("annotations")
        reading.files.add(str(file))
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            name, kind, *box = line.split()
            image, label = reading.image(name, file=str(file), boxes=1), reading.label_of(kind, file=str(file))
            if image is not None and label is not None:
                reading.box(image, label, map(float, box), item=number)
