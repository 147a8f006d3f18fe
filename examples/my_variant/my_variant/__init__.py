"""A loss with an option, a neck, an assigner and an annotation format.

Once this module is imported, configs and dataset cards can use them by name.
"""

import os

import torch
import torch.nn.functional as F

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
    """Focal loss of logits / temperature, summed over all anchors that are not ignored."""

    def __init__(self, *, gamma, temperature):
        self.gamma, self.temperature = gamma, temperature

    def __call__(self, pred_logits, targets):
        """Return the loss, a scalar, of L x (N, Ri, K) logits; ``targets`` is a ``ClassTargets``."""
        x = torch.cat(pred_logits, dim=1).float() / self.temperature  # (N, R, K)
        labels = targets.labels.clamp(min=0)  # -1 ignore, 0..K-1, K background
        is_class = F.one_hot(labels, x.shape[-1] + 1)[..., :-1].to(x)  # no column for the background
        loss = F.binary_cross_entropy_with_logits(x, is_class, reduction="none")
        p_t = torch.exp(-loss)
        return ((1 - p_t) ** self.gamma * loss)[targets.labels >= 0].sum()


@NECK_REGISTRY.register("average_fpn")
def build_average_fpn(cfg, bottom_up, in_features, top_block):
    """Build a feature pyramid network that merges levels by their mean."""
    return FPN(bottom_up, in_features, cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.FPN.NORM, top_block, fuse_type="avg")


RADIUS = Option(
    "radius", Number(float, 0, 1, open_low=True), 0.5, "Half the side of a box's central part.", "box sides"
)


@ASSIGNER_REGISTRY.register("centre", options=[RADIUS])
class CentreAssigner:
    """Label by position: foreground if an anchor's centre is in the central part of a box of similar size.

    The sizes are similar if they differ by less than a factor of 2.
    """

    def __init__(self, *, radius):
        self.radius = radius

    def __call__(self, anchors, gt_boxes, gt_classes, num_classes):
        """Return the labels (N, R) and the index (N, R) of the matched box of L x (Ri, 4) anchors; see ``Assigner``."""
        anchors = torch.cat(anchors)
        gt_labels = anchors.new_full((len(gt_boxes), len(anchors)), num_classes, dtype=torch.int64)
        matched_idxs, start = torch.zeros_like(gt_labels), 0
        centres, sides = (anchors[:, :2] + anchors[:, 2:]) / 2, (anchors[:, 2:] - anchors[:, :2]).prod(1).sqrt()
        for i, (boxes, classes) in enumerate(zip(gt_boxes, gt_classes, strict=True)):
            for j, (box, label) in enumerate(zip(boxes, classes, strict=True)):
                near = ((centres - (box[:2] + box[2:]) / 2).abs() < self.radius * (box[2:] - box[:2])).all(1)
                alike = (sides / (box[2:] - box[:2]).prod().sqrt()).log2().abs() < 1
                gt_labels[i, near & alike], matched_idxs[i, near & alike] = label, start + j
            start += len(boxes)
        return gt_labels, matched_idxs


@FORMAT_REGISTRY.register("boxes_txt")
class BoxesText(AnnotationFormat):
    """Files ``<split>.boxes`` with one line per box: "image class left top right bottom"."""

    name, title = "boxes_txt", "lines of boxes"

    def recognise(self, listing):
        """Find the ``.boxes`` files of a folder; each is one split."""
        found = Found()
        for file in listing.with_suffix(".boxes"):
            lines = listing.path(file).read_text(encoding="utf-8").splitlines()
            classes = sorted({line.split()[1] for line in lines})
            found.add(os.path.splitext(file)[0], {"annotations": file}, [file], classes)
        return found

    def read(self, source, reading):
        """Hand the images and boxes of a split to ``reading``."""
        file = reading.path("annotations")
        reading.files.add(str(file))
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            name, kind, *box = line.split()
            image = reading.image(name, file=str(file), boxes=1)
            label = reading.label_of(kind, file=str(file))
            if image is not None and label is not None:
                reading.box(image, label, map(float, box), item=number)
