"""Parts of training images: tiles at a fixed resolution, and large-scale jitter."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detectron2.config import CfgNode

from retina_plugin.data.resize import output_size


class Window(NamedTuple):
    """A part of an image and the size that it is resized to.

    Args:
        left, top, right, bottom: pixels of the image.
        height, width: of the network input, pixels.
    """

    left: int
    top: int
    right: int
    bottom: int
    height: int
    width: int


class RandomWindows:
    """Draws which part of a training image is used, and how large it becomes.

    Without tiles the whole image is resized, by ``jitter`` more than the sizes say, and cut to the size that it would
    have had. With tiles, a square is cut out, which is smaller by the factor of the jitter and has the same size in the
    network. Nothing is padded: a part that is smaller than the network input stays small.

    Args:
        sizes: shorter sides of the network input, one of which is drawn; with ``is_range`` any between the two.
        longest: most pixels of the longer side, for whole images.
        is_range: INPUT.MIN_SIZE_TRAIN_SAMPLING range.
        tile: side of the square, pixels of the image; 0: the whole image.
        anywhere: share of the windows that may lie anywhere; the others contain an object that is not cut.
        jitter: (low, high), between which a factor is drawn uniformly.

    Source: Ghiasi et al. 2021, *Simple Copy-Paste* (arXiv 2012.07177), section 3.1, for the jitter.
    """

    def __init__(
        self,
        *,
        sizes: Sequence[int],
        longest: int,
        is_range: bool = False,
        tile: int = 0,
        anywhere: float = 0.2,
        jitter: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self.sizes, self.longest, self.is_range = tuple(sizes), longest, is_range
        self.tile, self.anywhere, self.jitter = tile, anywhere, jitter

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "RandomWindows | None":
        """Return the windows that INPUT.TILES and INPUT.SCALE_JITTER ask for; None if they ask for none."""
        tiles, jitter = cfg.INPUT.TILES, cfg.INPUT.SCALE_JITTER
        if not tiles.SIZE and not jitter:
            return None
        return cls(
            sizes=cfg.INPUT.MIN_SIZE_TRAIN,
            longest=cfg.INPUT.MAX_SIZE_TRAIN,
            is_range=cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range",
            tile=tiles.SIZE,
            anywhere=tiles.ANYWHERE,
            jitter=(float(jitter[0]), float(jitter[1])) if jitter else (1.0, 1.0),
        )

    def draw(self, height: int, width: int, boxes: np.ndarray) -> Window:
        """Draw a window with numpy's random numbers.

        Args:
            height: of the image, pixels.
            width: of the image, pixels.
            boxes: (M, 4) XYXY, pixels of the image.
        """
        shorter = self._shorter()
        factor = np.random.uniform(*self.jitter)
        if self.tile:
            zoom, frame = (shorter or self.tile) / self.tile, (self.tile, self.tile)
        else:
            new = output_size(height, width, shorter, self.longest)
            zoom, frame = min(new) / min(height, width), (height, width)
        rows, columns = (
            min(side, max(1, round(most / factor))) for side, most in zip((height, width), frame, strict=True)
        )
        inside = None
        if len(boxes) and np.random.rand() >= self.anywhere:
            inside = boxes[np.random.randint(len(boxes))]
        left = _start(width, columns, None if inside is None else (inside[0], inside[2]))
        top = _start(height, rows, None if inside is None else (inside[1], inside[3]))
        size = (max(1, round(side * zoom * factor)) for side in (rows, columns))
        return Window(left, top, left + columns, top + rows, *size)

    def _shorter(self) -> int:
        """Draw the shorter side of the network input."""
        if self.is_range:
            return int(np.random.randint(self.sizes[0], self.sizes[1] + 1))
        return int(np.random.choice(self.sizes))


def _start(length: int, part: int, inside: tuple[float, float] | None) -> int:
    """Draw where a part of a side starts.

    Args:
        length: of the side, pixels.
        part: length of the part, at most ``length``.
        inside: ends of an object that the part contains, or that contains the part; None: anywhere.
    """
    low, high = 0, length - part
    if inside is not None:
        ends = int(np.ceil(inside[1])) - part, int(inside[0])
        low, high = (int(np.clip(end, 0, length - part)) for end in (min(ends), max(ends)))
    return int(np.random.randint(low, high + 1))
