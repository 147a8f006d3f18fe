"""Labels of the anchors of a batch, and the check of the ground-truth labels they are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detectron2.structures import Instances


@dataclass(frozen=True)
class AnchorLabels:
    """Labels of all anchors of a batch, and the matches of those with a class.

    Args:
        gt_labels: (N, R) int64: -1 ignore, 0..K-1 class, K background.
        foreground: image_idxs (P,) and anchor_idxs (P,) of the anchors with a class, in the order of ``gt_labels``.
        gt_boxes: (P, 4), the boxes that these anchors are matched with, XYXY pixels of the network input.
    """

    gt_labels: Tensor
    foreground: tuple[Tensor, Tensor]
    gt_boxes: Tensor

    @property
    def num_foreground(self) -> int:
        """P, the number of anchors with a class."""
        return len(self.gt_boxes)


class LabelError(ValueError):
    """A ground-truth label that is not a class of the model.

    Args:
        image: index of the image in the batch.
        wrong: the labels that are not classes.
        num_classes: K.
        file: file name of the image, if known.
    """

    def __init__(self, image: int, wrong: Sequence[int], num_classes: int, file: str | None = None) -> None:
        self.image, self.wrong, self.num_classes = image, list(wrong), num_classes
        what = f"image {image} of the batch" + (f" ({file})" if file else "")
        super().__init__(
            f"{what} has gt_classes {', '.join(map(str, wrong))}, but MODEL.RETINANET.NUM_CLASSES is "
            f"{num_classes}, so labels are 0..{num_classes - 1}: is the model for a different dataset, or does a "
            "mapper count classes from 1?"
        )


class LabelCheck:
    """Check that all labels of a batch are classes of the model, without synchronising with a GPU.

    Labels on the host, where the loader leaves them, are checked at construction. For labels on a GPU, the extremes are
    copied to the host asynchronously; :meth:`finish` checks them, and must be called after something else has
    synchronised with the GPU.

    Args:
        gt_instances: N ``Instances`` with ``gt_classes``.
        num_classes: K.

    Raises:
        LabelError: if a label on the host is not in 0..K-1.
        ValueError: if labels are not integers.
    """

    def __init__(self, gt_instances: Sequence[Instances], num_classes: int) -> None:
        self.gt_instances, self.num_classes = gt_instances, num_classes
        self._later: list[tuple[int, Tensor]] = []
        for image, gt in enumerate(gt_instances):
            labels = gt.gt_classes
            if labels.is_floating_point() or labels.dtype == torch.bool:
                raise ValueError(
                    f"image {image} of the batch has gt_classes of type {labels.dtype}; "
                    f"they must be integers, 0..{num_classes - 1}"
                )
            if len(labels) == 0:
                continue
            extremes = torch.stack(labels.aminmax())
            if labels.device.type == "cuda":
                pinned = torch.empty(2, dtype=labels.dtype, pin_memory=True)  # a copy to other memory would synchronise
                self._later.append((image, pinned.copy_(extremes, non_blocking=True)))
            else:
                self._look(image, extremes)

    def _look(self, image: int, extremes: Tensor) -> None:
        """Check the smallest and largest label (2,) of one image."""
        low, high = extremes.tolist()
        if not 0 <= low <= high < self.num_classes:
            labels = self.gt_instances[image].gt_classes
            wrong = labels[~((labels >= 0) & (labels < self.num_classes))].unique()
            raise LabelError(image, wrong.tolist(), self.num_classes)

    def finish(self) -> None:
        """Check the labels that came from a GPU.

        Raises:
            LabelError: if one is not in 0..K-1.
        """
        for image, extremes in self._later:
            self._look(image, extremes)
