"""What happens to an image between the file and the network."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from fvcore.transforms.transform import Transform

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances

from retina_plugin.data.image_headers import MAX_IMAGE_PIXELS, ImageFile
from retina_plugin.data.pixels import PixelRange, decode, read_image, value_range_of
from retina_plugin.data.strangers_files import ImageError
from retina_plugin.registry import SlotRegistry

__all__ = [
    "CvResizeShortestEdge",
    "CvResizeTransform",
    "RetinaMapper",
    "boxes_of",
    "build_augmentations",
    "build_mapper",
    "contiguous",
    "read_image",
    "reduction",
    "to_instances",
]

MOST_EMPTY = 1e-5
"""Boxes narrower or lower than this, in pixels, are left out after the augmentations, as in Detectron2."""


class CvResizeTransform(Transform):
    """Resize with OpenCV: linear where the image grows, by area where it shrinks.

    Args:
        h, w: size of the original image; what is given to :meth:`apply_image` may be a smaller copy.
        new_h, new_w: size to make.
    """

    def __init__(self, h: int, w: int, new_h: int, new_w: int) -> None:
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """(h', w', C) to (new_h, new_w, C); ``interp`` is not used."""
        if img.shape[:2] == (self.new_h, self.new_w):
            return img
        shrinks = self.new_h < img.shape[0] and self.new_w < img.shape[1]
        resized = cv2.resize(
            img, (self.new_w, self.new_h), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        return resized.reshape(self.new_h, self.new_w, *img.shape[2:])  # OpenCV drops the axis of a single channel

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """(n, 2) points (x, y) of the original to points of the new image."""
        return coords * np.array([self.new_w / self.w, self.new_h / self.h])

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """(h', w') labels to (new_h, new_w)."""
        return cv2.resize(segmentation, (self.new_w, self.new_h), interpolation=cv2.INTER_NEAREST)


class CvResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's ``ResizeShortestEdge``, done by OpenCV."""

    def get_transform(self, image: np.ndarray) -> Transform:
        """The transform for an image (h, w, ...), with a size drawn at random."""
        transform = super().get_transform(image)
        if not isinstance(transform, T.ResizeTransform):
            return transform
        return CvResizeTransform(transform.h, transform.w, transform.new_h, transform.new_w)


def build_augmentations(cfg: CfgNode, *, is_train: bool) -> list[T.Augmentation]:
    """Detectron2's augmentations of the config, then those of the plugin's keys.

    INPUT.COLOR_JITTER s > 0 scales brightness, contrast and saturation by factors from 1 - s .. 1 + s;
    INPUT.RANDOM_FLIP_VERTICAL flips upside down half of the time, besides INPUT.RANDOM_FLIP; INPUT.ROTATE_90 turns by 0, 90, 180 or 270 degrees.
    """
    augmentations = utils.build_augmentation(cfg, is_train=is_train)
    if cfg.INPUT.READER == "opencv":
        resize = augmentations[0]
        augmentations[0] = CvResizeShortestEdge(
            resize.short_edge_length, resize.max_size, "range" if resize.is_range else "choice"
        )
    if not is_train:
        return augmentations
    if cfg.INPUT.CROP.ENABLED:
        augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    if cfg.INPUT.RANDOM_FLIP_VERTICAL:
        augmentations.append(T.RandomFlip(horizontal=False, vertical=True))
    if cfg.INPUT.ROTATE_90:
        augmentations.append(T.RandomRotation([0, 90, 180, 270], sample_style="choice"))
    if cfg.INPUT.COLOR_JITTER > 0:
        low, high = 1 - cfg.INPUT.COLOR_JITTER, 1 + cfg.INPUT.COLOR_JITTER
        augmentations += [T.RandomBrightness(low, high), T.RandomContrast(low, high), T.RandomSaturation(low, high)]
    return augmentations


def reduction(size: tuple[int, int], target: tuple[int, int]) -> int:
    """The largest of 8, 4, 2, 1 by which an image (h, w) can be divided and still be no smaller than ``target``."""
    return next((n for n in (8, 4, 2) if size[0] >= n * target[0] and size[1] >= n * target[1]), 1)


def contiguous(image: np.ndarray) -> np.ndarray:
    """The same (h, w, C) image in one piece of memory; a mirrored view is copied by OpenCV, tens of times faster than by numpy."""
    upside_down, left_right = image.strides[0] < 0, image.strides[1] < 0
    if upside_down or left_right:
        original = image[:: -1 if upside_down else 1, :: -1 if left_right else 1]
        return cv2.flip(np.ascontiguousarray(original), -1 if upside_down and left_right else int(left_right)).reshape(
            image.shape
        )
    return np.require(image, requirements="CW")  # Pillow's arrays cannot be written to


class RetinaMapper:
    """From a dataset dict to what the model takes: OpenCV for the pixels, one array for the boxes.

    Boxes come out as those of Detectron2's ``DatasetMapper``; pixels differ by rounding where the image
    grows and by the filter where it shrinks (see docs/performance.md). With INPUT.READER "detectron2" and
    Detectron2's augmentations the pixels are those of ``DatasetMapper``, too.

    Args:
        augmentations: applied in order; if the first is a ``CvResizeShortestEdge``, large JPEGs are
            decoded at a fraction of their size.
        image_format: INPUT.FORMAT; OpenCV reads "BGR" and "RGB", Pillow the others.
        is_train: whether "instances" and "ignore_boxes" are wanted.
        reader: INPUT.READER.
        value_range: INPUT.VALUE_RANGE, see :func:`retina_plugin.data.pixels.read_image`.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.
    """

    def __init__(
        self,
        *,
        augmentations: list[T.Augmentation],
        image_format: str,
        is_train: bool,
        reader: str = "opencv",
        value_range: PixelRange | None = None,
        max_pixels: int = MAX_IMAGE_PIXELS,
    ) -> None:
        self.resize, self.augmentations = None, augmentations
        if augmentations and isinstance(augmentations[0], CvResizeShortestEdge):
            self.resize, self.augmentations = augmentations[0], augmentations[1:]
        self.image_format, self.is_train = image_format, is_train
        self.reading, self.max_pixels = {"reader": reader, "value_range": value_range}, max_pixels

    def __call__(self, dataset_dict: dict) -> dict:
        """Map one dict; "image" becomes (C, H, W) uint8, a view of (H, W, C); crowd regions become "ignore_boxes" (G, 4).

        Raises:
            SizeMismatchError: the file is not of the "height" and "width" of the dict.
            ImageError: it cannot be used as an image; says why.
        """
        record = {key: value for key, value in dataset_dict.items() if key != "annotations"}
        image, transforms = self._read(record)
        aug_input = T.AugInput(image)
        transforms = T.TransformList([*transforms, T.AugmentationList(self.augmentations)(aug_input)])
        image = contiguous(aug_input.image)
        record["image"] = torch.from_numpy(image).permute(2, 0, 1)
        if self.is_train and "annotations" in dataset_dict:
            annotations = dataset_dict["annotations"]
            record["instances"] = to_instances(annotations, transforms, image.shape[:2])
            if crowds := [x for x in annotations if x.get("iscrowd", 0)]:
                boxes, keep = boxes_of(crowds, transforms, image.shape[:2])
                record["ignore_boxes"] = boxes[keep]
        return record

    def _read(self, record: dict) -> tuple[np.ndarray, list[Transform]]:
        """The image, resized if the mapper does that first, and the transforms that this took."""
        size, first = (record.get("height"), record.get("width")), None
        with ImageFile(record["file_name"], max_pixels=self.max_pixels) as file:
            if self.resize is not None and None not in size:
                first = self._resized(record["file_name"], np.broadcast_to(np.uint8(0), size))
                n = reduction(size, (first.new_h, first.new_w)) if isinstance(first, CvResizeTransform) else 1
                if n > 1 and (file.header.height, file.header.width) == size:
                    return first.apply_image(decode(file, self.image_format, reduce=n, **self.reading)), [first]
            image = decode(file, self.image_format, **self.reading)
        utils.check_image_size(record, image)
        if self.resize is None:
            return image, []
        first = first or self._resized(record["file_name"], image)
        return first.apply_image(image), [first]

    def _resized(self, file: str, image: np.ndarray) -> Transform:
        """The transform that resizes an image.

        Raises:
            ImageError: a side would have no pixel.
        """
        transform = self.resize.get_transform(image)
        if isinstance(transform, CvResizeTransform) and min(transform.new_h, transform.new_w) < 1:
            raise ImageError(
                file,
                f"is {transform.w}x{transform.h}, of which {transform.new_w}x{transform.new_h} pixels are left where the longer side is at most {self.resize.max_size}: cut it in pieces",
            )
        return transform


def boxes_of(
    annotations: list[dict], transforms: T.TransformList, image_size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes after the transforms of their image, clipped to it.

    Args:
        annotations: Detectron2's, in pixels of the original image.
        transforms: from there to the network input.
        image_size: (height, width) of the network input.

    Returns:
        (M, 4) XYXY float32, and (M,) bool: what is left of a box is no line or point.
    """
    boxes = np.zeros((len(annotations), 4))
    for mode in {x["bbox_mode"] for x in annotations}:
        chosen = [i for i, x in enumerate(annotations) if x["bbox_mode"] == mode]
        boxes[chosen] = BoxMode.convert(
            np.array([annotations[i]["bbox"] for i in chosen], dtype=float), mode, BoxMode.XYXY_ABS
        )
    height, width = image_size
    boxes = transforms.apply_box(boxes).clip(min=0)
    boxes = torch.from_numpy(np.minimum(boxes, [width, height, width, height])).float()
    return boxes, (boxes[:, 2:] - boxes[:, :2] > MOST_EMPTY).all(dim=1)


def to_instances(annotations: list[dict], transforms: T.TransformList, image_size: tuple[int, int]) -> Instances:
    """Boxes and classes of one image after its transforms, without crowds and what was cropped away; see :func:`boxes_of`.

    Returns:
        ``Instances`` with ``gt_boxes`` (M, 4) and ``gt_classes`` (M,) int64.
    """
    annotations = [x for x in annotations if not x.get("iscrowd", 0)]
    boxes, keep = boxes_of(annotations, transforms, image_size)
    instances = Instances(image_size)
    instances.gt_boxes = Boxes(boxes[keep])
    instances.gt_classes = torch.tensor([x["category_id"] for x in annotations], dtype=torch.int64)[keep]
    return instances


MAPPER_REGISTRY = SlotRegistry("mapper", "INPUT.MAPPER", section="INPUT.MAPPERS")
"""Callables ``mapper(cfg, is_train) -> f``, with ``f`` from a record to the network's input: "image" (C, H, W) and, in training, "instances".
One that names ``with_boxes`` is told whether "instances" are wanted in inference, too, for the losses of a validation."""


def build_mapper(cfg: CfgNode, *, is_train: bool, with_boxes: bool = False) -> Callable[[dict], dict]:
    """The mapper of INPUT.MAPPER.

    Raises:
        TypeError: it makes nothing that can be called.
    """
    mapper = MAPPER_REGISTRY.build(cfg.INPUT.MAPPER, cfg=cfg, is_train=is_train, with_boxes=with_boxes)
    if not callable(mapper):
        raise TypeError(
            f"INPUT.MAPPER {cfg.INPUT.MAPPER} must make a function of a record; it made a {type(mapper).__name__}"
        )
    return mapper


@MAPPER_REGISTRY.register("retina")
def retina_mapper(cfg: CfgNode, is_train: bool, with_boxes: bool = False) -> RetinaMapper:
    """:class:`RetinaMapper` with :func:`build_augmentations`."""
    return RetinaMapper(
        augmentations=build_augmentations(cfg, is_train=is_train),
        image_format=cfg.INPUT.FORMAT,
        is_train=is_train or with_boxes,
        reader=cfg.INPUT.READER,
        value_range=value_range_of(cfg),
        max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS,
    )


@MAPPER_REGISTRY.register("detectron2")
def detectron2s_mapper(cfg: CfgNode, is_train: bool) -> DatasetMapper:
    """Detectron2's own: reads and resizes with Pillow, and knows its own augmentations only."""
    return DatasetMapper(cfg, is_train=is_train)
