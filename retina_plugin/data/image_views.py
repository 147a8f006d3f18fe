"""Several views of an image: tiles of a large one, and scaled and mirrored copies (test-time augmentation)."""

from typing import Any, NamedTuple

import numpy as np
import torch

from detectron2.config import CfgNode
from detectron2.data import detection_utils as utils

from retina_plugin.data.image_headers import ImageFile
from retina_plugin.data.mapper import CvResizeShortestEdge, RetinaMapper, contiguous
from retina_plugin.data.pixels import value_range_of

VIEWS = "views"
"""Key of a mapped record: the list of its views."""

Region = tuple[int, int, int, int]
"""Part of an image, XYXY, pixels."""


class Views(NamedTuple):
    """Which views of an image a detector sees.

    Args:
        sizes: (shorter side, longest side) that each part of the image is resized to, pixels; 0: not resized.
        flip: whether each is mirrored as well.
        tile: side of the square tiles in pixels of the image; 0: the whole image is the only part.
        overlap: of neighbouring tiles, as a fraction of the side.
        whole: with tiles, also look at the whole image, for objects that no tile contains.
    """

    sizes: tuple[tuple[int, int], ...]
    flip: bool = False
    tile: int = 0
    overlap: float = 0.2
    whole: bool = True

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Views | None":
        """Return the views that TEST.TILES and TEST.AUG ask for; None if they ask for none."""
        augment, tiles = cfg.TEST.AUG, cfg.TEST.TILES
        if not (augment.ENABLED or tiles.SIZE):
            return None
        sizes: tuple[tuple[int, int], ...] = ((cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST),)
        if augment.ENABLED:
            sizes = tuple((size, augment.MAX_SIZE) for size in augment.MIN_SIZES)
        return cls(sizes, augment.ENABLED and augment.FLIP, tiles.SIZE, tiles.OVERLAP, tiles.WHOLE)

    def regions(self, height: int, width: int) -> list[Region]:
        """Return the parts of an image that are looked at.

        Example:
            >>> Views(((100, 100),), tile=100, overlap=0.2, whole=False).regions(100, 250)
            [(0, 0, 100, 100), (75, 0, 175, 100), (150, 0, 250, 100)]
        """
        if not self.tile:
            return [(0, 0, width, height)]
        right, bottom = min(self.tile, width), min(self.tile, height)
        tiles = [
            (x, y, x + right, y + bottom)
            for y in _starts(height, self.tile, self.overlap)
            for x in _starts(width, self.tile, self.overlap)
        ]
        return [*tiles, (0, 0, width, height)] if self.whole and len(tiles) > 1 else tiles

    def sizes_of(self, region: Region) -> list[tuple[int, int]]:
        """Return the (shorter side, longest side) that a part of an image is resized to, pixels.

        If only tiles are looked at, an image that is smaller than a tile is resized by the factor of a tile, as
        INPUT.TILES does in training.

        Example:
            >>> Views(((200, 400),), tile=100, whole=False).sizes_of((0, 0, 100, 80))
            [(160, 400)]
        """
        if not self.tile or self.whole:
            return list(self.sizes)
        side = min(region[2] - region[0], region[3] - region[1])
        return [(shorter and max(1, round(shorter * side / self.tile)), longest) for shorter, longest in self.sizes]


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Return where tiles begin along one side, spaced evenly, so that they cover it and overlap at least so much."""
    if length <= tile:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    count = 1 + -(-(length - tile) // step)
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


class ViewMapper(RetinaMapper):
    """Maps a dataset dict to the views of its image.

    Args:
        views: which.
        options: of :class:`retina_plugin.data.mapper.RetinaMapper`.
    """

    def __init__(self, views: Views, **options: Any) -> None:
        super().__init__(augmentations=[], is_train=False, **options)
        self.views = views

    @classmethod
    def from_config(cls, cfg: CfgNode, views: Views) -> "ViewMapper":
        """Build a mapper that reads images as the config says."""
        return cls(
            views,
            image_format=cfg.INPUT.FORMAT,
            reader=cfg.INPUT.READER,
            value_range=value_range_of(cfg),
            max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS,
        )

    def __call__(self, dataset_dict: dict) -> dict:
        """Map one dict.

        Returns:
            The dict without "annotations" and with "views", see :meth:`split`, and "image", that of the first view.

        Raises:
            SizeMismatchError: the image does not have the "height" and "width" of the dict.
            ImageError: the file cannot be used as an image.
        """
        record = {key: value for key, value in dataset_dict.items() if key != "annotations"}
        with ImageFile(record["file_name"], max_pixels=self.max_pixels) as file:
            image = self._decode(file)
        utils.check_image_size(record, image)
        record[VIEWS] = self.split(image, record["file_name"])
        record["image"] = record[VIEWS][0]["image"]
        return record

    def split(self, image: np.ndarray, name: str) -> list[dict]:
        """Return the views of an image (H, W, C) uint8.

        Args:
            image: in INPUT.FORMAT.
            name: for messages.

        Returns:
            Dicts with "image" (C, h, w) uint8, "region" XYXY in pixels of the image, "height" and "width" of the
            region, and "flipped".

        Raises:
            ImageError: a side of a resized region would have no pixels.
        """
        views = []
        for region in self.views.regions(*image.shape[:2]):
            left, top, right, bottom = region
            part = image[top:bottom, left:right]
            for shorter, longest in self.views.sizes_of(region):
                resize = CvResizeShortestEdge([shorter, shorter], longest, "choice")
                resized = self._resizing(resize, name, part).apply_image(part)
                for flipped in (False, True) if self.views.flip else (False,):
                    pixels = contiguous(resized[:, ::-1] if flipped else resized)
                    views.append(
                        {
                            "image": torch.from_numpy(pixels).permute(2, 0, 1),
                            "height": bottom - top,
                            "width": right - left,
                            "region": region,
                            "flipped": flipped,
                        }
                    )
        return views
