"""Mappers: from a dataset dict to the input of the network, with resizing and augmentation."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from fvcore.transforms.transform import CropTransform, Transform

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from retina_plugin.data.augmentations import TorchvisionAugmentations
from retina_plugin.data.image_headers import MAX_IMAGE_PIXELS, ImageFile
from retina_plugin.data.pixels import PixelRange, decode, read_image, value_range_of
from retina_plugin.data.resize import reduction, resized
from retina_plugin.data.strangers_files import ImageError
from retina_plugin.data.targets import boxes_of, original_boxes, to_instances, window_of
from retina_plugin.data.windows import RandomWindows
from retina_plugin.registry import SlotRegistry

__all__ = [
    "CvResizeShortestEdge",
    "CvResizeTransform",
    "RetinaMapper",
    "build_augmentations",
    "build_mapper",
    "contiguous",
    "read_image",
    "reduction",
]


class CvResizeTransform(Transform):
    """Resizing with OpenCV: bilinear to enlarge, by area to shrink.

    Args:
        h, w: size of the original image, pixels; :meth:`apply_image` may receive a smaller copy of it.
        new_h, new_w: size of the resized image, pixels.
    """

    def __init__(self, h: int, w: int, new_h: int, new_w: int) -> None:
        super().__init__()
        self.h, self.w, self.new_h, self.new_w = h, w, new_h, new_w

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """Resize an image (h', w', C) to (new_h, new_w, C); ``interp`` is ignored."""
        return resized(img, self.new_h, self.new_w)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Map points (n, 2), (x, y) in pixels, from the original to the resized image."""
        return coords * np.array([self.new_w / self.w, self.new_h / self.h])

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Resize labels (h', w') to (new_h, new_w), by nearest neighbour."""
        return cv2.resize(segmentation, (self.new_w, self.new_h), interpolation=cv2.INTER_NEAREST)


class CvResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's ``ResizeShortestEdge``, with OpenCV."""

    def get_transform(self, image: np.ndarray) -> Transform:
        """Draw a size at random and return the transform for an image (h, w, ...)."""
        transform = super().get_transform(image)
        if not isinstance(transform, T.ResizeTransform):
            return transform
        return CvResizeTransform(transform.h, transform.w, transform.new_h, transform.new_w)


def build_augmentations(cfg: CfgNode, *, is_train: bool) -> list[T.Augmentation]:
    """Build Detectron2's augmentations of a config, then those of the plugin's keys.

    INPUT.COLOR_JITTER s > 0 scales brightness, contrast and saturation by factors from 1 - s to 1 + s;
    INPUT.RANDOM_FLIP_VERTICAL flips half of the images upside down, in addition to INPUT.RANDOM_FLIP; INPUT.ROTATE_90
    rotates by 0, 90, 180 or 270 degrees.
    """
    augmentations = utils.build_augmentation(cfg, is_train=is_train)
    if cfg.INPUT.READER == "opencv":
        resize = augmentations[0]
        style = "range" if resize.is_range else "choice"
        augmentations[0] = CvResizeShortestEdge(resize.short_edge_length, resize.max_size, style)
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


def contiguous(image: np.ndarray) -> np.ndarray:
    """Return an image (h, w, C) as a writable array in contiguous memory.

    OpenCV copies mirrored views, which is tens of times faster than numpy.
    """
    upside_down, left_right = image.strides[0] < 0, image.strides[1] < 0
    if not upside_down and not left_right:
        return np.require(image, requirements=["C", "W"])  # Pillow's arrays are not writable
    original = image[:: -1 if upside_down else 1, :: -1 if left_right else 1]
    axes = -1 if upside_down and left_right else int(left_right)  # -1: both
    return cv2.flip(np.ascontiguousarray(original), axes).reshape(image.shape)


class RetinaMapper:
    """Maps a dataset dict to the input of the model, with OpenCV for the pixels and one array for the boxes.

    Boxes equal those of Detectron2's ``DatasetMapper``; pixels differ by rounding if the image is enlarged and by the
    filter if it is shrunk (see docs/performance.md). With INPUT.READER "detectron2" and Detectron2's augmentations, the
    pixels equal those of ``DatasetMapper`` as well.

    Args:
        augmentations: applied in order; if the first is a ``CvResizeShortestEdge``, large JPEGs are decoded at a
            fraction of their size.
        image_format: INPUT.FORMAT; OpenCV reads "BGR" and "RGB", Pillow the others.
        is_train: whether to add "instances" and "ignore_boxes".
        reader: INPUT.READER.
        value_range: INPUT.VALUE_RANGE, see :func:`retina_plugin.data.pixels.read_image`.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.
        operations: INPUT.AUGMENTATIONS, applied last.
        windows: parts of the image to train on, in place of the resizing by ``augmentations``; objects of which a part
            shows too little become ignore boxes, see :func:`retina_plugin.data.mixing.cut`.
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
        operations: Sequence[Any] = (),
        windows: RandomWindows | None = None,
    ) -> None:
        self.windows = windows
        self.operations = TorchvisionAugmentations(operations) if operations else None
        self.resize: CvResizeShortestEdge | None = None
        self.augmentations = augmentations
        if augmentations and isinstance(augmentations[0], CvResizeShortestEdge):
            self.resize, self.augmentations = augmentations[0], augmentations[1:]
        self.image_format, self.is_train, self.max_pixels = image_format, is_train, max_pixels
        self.reader, self.value_range = reader, value_range

    def __call__(self, dataset_dict: dict) -> dict:
        """Map one dict.

        Returns:
            The dict without "annotations" and with "image" (C, H, W) uint8, a view of (H, W, C). If ``is_train`` it
            also has "instances" and, if there are crowds, "ignore_boxes" (G, 4) XYXY, pixels of the network input.

        Raises:
            SizeMismatchError: the image does not have the "height" and "width" of the dict.
            ImageError: the file cannot be used as an image; contains the reason.
        """
        record = {key: value for key, value in dataset_dict.items() if key != "annotations"}
        annotations = dataset_dict.get("annotations", [])
        image, transforms = self._read_window(record, annotations) if self.windows else self._read(record)
        aug_input = T.AugInput(image)
        transforms = T.TransformList([*transforms, T.AugmentationList(self.augmentations)(aug_input)])
        image = contiguous(aug_input.image)
        record["image"] = torch.from_numpy(image).permute(2, 0, 1)
        if self.is_train and "annotations" in dataset_dict and self.windows:
            record |= window_of(annotations, transforms, image.shape[:2])
        elif self.is_train and "annotations" in dataset_dict:
            record["instances"] = to_instances(annotations, transforms, image.shape[:2])
            if crowds := [x for x in annotations if x.get("iscrowd", 0)]:
                boxes, keep = boxes_of(crowds, transforms, image.shape[:2])
                record["ignore_boxes"] = boxes[keep]
        return self.operations(record) if self.operations else record

    def _read(self, record: dict) -> tuple[np.ndarray, list[Transform]]:
        """Read an image, resized if that is the first augmentation.

        Returns:
            The image (h, w, C) uint8, and the transforms that were applied.
        """
        first = None
        with ImageFile(record["file_name"], max_pixels=self.max_pixels) as file:
            if self.resize is not None and record.get("height") is not None and record.get("width") is not None:
                size: tuple[int, int] = (record["height"], record["width"])
                first = self._resizing(self.resize, file.file, np.broadcast_to(np.uint8(0), size))
                n = reduction(size, (first.new_h, first.new_w)) if isinstance(first, CvResizeTransform) else 1
                if n > 1 and (file.header.height, file.header.width) == size:
                    return first.apply_image(self._decode(file, reduce=n)), [first]
            image = self._decode(file)
        utils.check_image_size(record, image)
        if self.resize is None:
            return image, []
        first = first or self._resizing(self.resize, file.file, image)
        return first.apply_image(image), [first]

    def _read_window(self, record: dict, annotations: list[dict]) -> tuple[np.ndarray, list[Transform]]:
        """Read a random part of an image, resized.

        Args:
            record: of the image.
            annotations: Detectron2's, in pixels of the image.

        Returns:
            The part (h, w, C) uint8, and the transforms from the image to it.
        """
        assert self.windows is not None
        boxes = original_boxes([x for x in annotations if not x.get("iscrowd", 0)])
        with ImageFile(record["file_name"], max_pixels=self.max_pixels) as file:
            height, width = file.header.height, file.header.width
            window = self.windows.draw(height, width, boxes)
            part = window.bottom - window.top, window.right - window.left
            n = reduction(part, (window.height, window.width))
            image = self._decode(file, reduce=n)
        utils.check_image_size(record, np.broadcast_to(np.uint8(0), (height, width)))
        if image.shape[:2] == (height, width):
            n = 1  # only JPEGs are reduced
        left, top = window.left // n * n, window.top // n * n
        rows, columns = (max(1, round(side / n)) for side in part)
        image = image[top // n : top // n + rows, left // n : left // n + columns]
        transforms = [
            CropTransform(left, top, part[1], part[0], width, height),
            CvResizeTransform(*part, window.height, window.width),
        ]
        return resized(image, window.height, window.width), transforms

    def _decode(self, file: ImageFile, *, reduce: int = 1) -> np.ndarray:
        """Decode an open file as the config demands, see :func:`retina_plugin.data.pixels.decode`."""
        return decode(file, self.image_format, reduce=reduce, value_range=self.value_range, reader=self.reader)

    @staticmethod
    def _resizing(resize: CvResizeShortestEdge, file: str, image: np.ndarray) -> Transform:
        """Return the transform that resizes an image.

        Raises:
            ImageError: a side of the resized image would have no pixels.
        """
        transform = resize.get_transform(image)
        if isinstance(transform, CvResizeTransform) and min(transform.new_h, transform.new_w) < 1:
            raise ImageError(
                file,
                f"is {transform.w}x{transform.h}, which leaves {transform.new_w}x{transform.new_h} pixels "
                f"with a longer side of at most {resize.max_size}: cut it into pieces",
            )
        return transform


MAPPER_REGISTRY = SlotRegistry("mapper", "INPUT.MAPPER", section="INPUT.MAPPERS")
"""Callables ``mapper(cfg, is_train) -> f``, where ``f`` maps a record to the input of the network.

That is "image" (C, H, W) and, in training, "instances". A callable with the argument ``with_boxes`` is told whether
"instances" are wanted outside of training as well, for the validation losses.
"""


def build_mapper(cfg: CfgNode, *, is_train: bool, with_boxes: bool = False) -> Callable[[dict], dict]:
    """Build the mapper of INPUT.MAPPER.

    Args:
        cfg: the config.
        is_train: whether it is for training.
        with_boxes: whether "instances" are wanted outside of training as well.

    Raises:
        TypeError: the mapper that was built is not callable.
    """
    mapper = MAPPER_REGISTRY.build(cfg.INPUT.MAPPER, cfg=cfg, is_train=is_train, with_boxes=with_boxes)
    if not callable(mapper):
        raise TypeError(
            f"INPUT.MAPPER {cfg.INPUT.MAPPER} must return a function of a record, got a {type(mapper).__name__}"
        )
    return mapper


@MAPPER_REGISTRY.register("retina")
def retina_mapper(cfg: CfgNode, is_train: bool, with_boxes: bool = False) -> RetinaMapper:
    """Build a :class:`RetinaMapper` with the augmentations of :func:`build_augmentations`."""
    windows = RandomWindows.from_config(cfg) if is_train else None
    augmentations = build_augmentations(cfg, is_train=is_train)
    if windows:  # they resize the image
        augmentations = augmentations[1:]
    return RetinaMapper(
        augmentations=augmentations,
        image_format=cfg.INPUT.FORMAT,
        is_train=is_train or with_boxes,
        reader=cfg.INPUT.READER,
        value_range=value_range_of(cfg),
        max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS,
        operations=cfg.INPUT.AUGMENTATIONS if is_train else (),
        windows=windows,
    )


@MAPPER_REGISTRY.register("detectron2")
def detectron2s_mapper(cfg: CfgNode, is_train: bool) -> DatasetMapper:
    """Build Detectron2's own mapper: it reads and resizes with Pillow, and has only Detectron2's augmentations."""
    return DatasetMapper(cfg, is_train=is_train)
