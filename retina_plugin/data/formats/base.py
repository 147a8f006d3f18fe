"""The interface of an annotation format."""

from dataclasses import dataclass, field
from pathlib import Path

from retina_plugin.data.problems import Problem
from retina_plugin.registry import SlotRegistry

FORMAT_REGISTRY = SlotRegistry("annotation format", "format (in the dataset card)")
"""Functions ``read(root, split, classes) -> ReadResult``.

``root`` is the folder of the dataset, ``split`` the entry of the card with the paths that the format
needs, ``classes`` the names whose order gives the labels 0..K-1. A reader reports everything that is
wrong and leaves it out; it raises only if there is nothing to read at all.
"""


@dataclass
class ReadResult:
    """What a reader found.

    Args:
        records: Detectron2's dataset dicts: file_name, height, width, image_id, and annotations with
            bbox (XYXY_ABS, pixels of the original image), bbox_mode, category_id 0..K-1, iscrowd.
        problems: everything that was left out or changed.
        metadata: attributes for the dataset's entry in detectron2's ``MetadataCatalog``.
    """

    records: list[dict] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    metadata: dict = field(default_factory=dict)


def split_path(root: Path, split: dict, key: str) -> Path:
    """The path that a split of a card names under ``key``.

    Raises:
        ValueError: the card lacks it.
        FileNotFoundError: it does not exist.
    """
    if key not in split:
        raise ValueError(f"the split has no {key!r}; it says {split}")
    path = root / split[key]
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    return path
