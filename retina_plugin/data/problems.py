"""Kinds of problems that a dataset can have, and how each is reported."""

from collections import Counter
from dataclasses import dataclass
from enum import Enum

MOST_SHOWN = 50
"""Problems that :func:`describe` lists; the rest are counted."""


class Kind(Enum):
    """A kind of problem: whether it makes a check fail, what it is called, and how to fix it."""

    FILE = (
        "error",
        "annotation files that cannot be read",
        "write or copy the file again; its contents are missing from the data",
    )
    ANNOTATION = (
        "error",
        "annotations that cannot be used as they are",
        "correct the annotations, or let --fix leave out what each line names",
    )
    CLIPPED = (
        "error",
        "boxes that extend beyond their image",
        "correct the boxes, or let --fix clip them to the image",
    )
    MISSING = (
        "error",
        "images that are named but do not exist",
        "copy the images, or remove them from the annotations (--fix does)",
    )
    IMAGE = (
        "error",
        "images that cannot be read",
        "copy the images again, or remove them from the annotations (--fix does)",
    )
    SIZE = (
        "error",
        "images whose size contradicts their annotations",
        "give the annotations the size of the image as displayed, or resize the image back (--fix leaves them out)",
    )
    LOST = ("error", "annotations without an image", "copy the images, or remove the annotations")
    SPLIT = (
        "error",
        "images that are in two splits",
        "keep each image in one split only (--fix does): a score on images that were trained on means nothing",
    )
    TWICE = ("error", "images that occur twice in a split", "remove one of them (--fix does)")
    EMPTY = ("error", "splits with nothing to train on", "see above what was left out")
    CLASSES = (
        "error",
        "unknown classes",
        "add the class to the card, or make sure that its name is spelled the same everywhere",
    )
    SCALED = (
        "warning",
        "images whose size differs from their annotations at the same aspect ratio",
        "nothing to do if the images were resized after they were annotated: the boxes are scaled with them",
    )
    RESIZED = (
        "warning",
        "images without a usable size in their annotations",
        "nothing to do: the sizes are read from the image files",
    )
    LOOKED_UP = (
        "warning",
        "images that are not where the annotations say",
        "nothing to do if the right files were found",
    )
    ENCODING = ("warning", "text that is not UTF-8", "save the file as UTF-8, and check the names")
    MERGED = (
        "warning",
        "annotations and classes that occur more than once",
        "nothing to do: one of each is used",
    )
    SPELLING = ("warning", "classes with almost the same spelling", "give them one name if they are one class")
    UNUSED_FILE = (
        "warning",
        "annotation files that are not used",
        "nothing to do if they are not meant to be used; otherwise name them in a card",
    )
    EXIF = (
        "warning",
        "images rotated or mirrored by their EXIF data",
        "nothing to do if the boxes were drawn on the image as displayed; the plugin applies the EXIF orientation",
    )
    PIXELS = (
        "warning",
        "images whose pixels are not used in full",
        "nothing to do if the value range and the bands that are named suit the data",
    )
    DUPLICATE = ("warning", "boxes that occur twice", "remove one of them (--fix does)")
    UNUSED_CLASS = (
        "warning",
        "classes without a box",
        "remove the class from the card, or make sure that its name is spelled the same everywhere",
    )
    UNLABELLED = (
        "warning",
        "images without objects",
        "nothing to do if they show no object; DATALOADER.FILTER_EMPTY_ANNOTATIONS and EMPTY_IMAGES decide their use",
    )
    EXTREME = (
        "warning",
        "images of extreme size or shape",
        "nothing to do if they are intended; MIN_SIZE_TRAIN and MAX_SIZE_TRAIN decide how they are resized",
    )
    TINY = (
        "warning",
        "boxes that are almost invisible at network resolution",
        "`retina data anchors` shows whether the network can find them",
    )
    CROWDED = (
        "warning",
        "images with more objects than can be detected",
        "raise TEST.DETECTIONS_PER_IMAGE above the number of objects",
    )

    def __init__(self, severity: str, title: str, fix: str) -> None:
        self.severity, self.title, self.fix = severity, title, fix

    @property
    def is_error(self) -> bool:
        """Return whether a check fails on it."""
        return self.severity == "error"


@dataclass(frozen=True)
class Problem:
    """One error or oddity of a dataset.

    Args:
        kind: decides its severity, title and remedy.
        file: the file that has it.
        what: what is wrong with the file, and what is expected.
        image: id or name of the image, if the problem is about one.
        annotation: id or number of the annotation, if the problem is about one.
        done: how training deals with it.
        boxes, images: number of boxes and images that are left out because of it.
    """

    kind: Kind
    file: str
    what: str
    image: str | int | None = None
    annotation: str | int | None = None
    done: str = "left out"
    boxes: int = 0
    images: int = 0

    def __str__(self) -> str:
        where = [shown(self.file)]
        where += [f"image {shown(self.image)}"] if self.image is not None else []
        where += [f"annotation {shown(self.annotation)}"] if self.annotation is not None else []
        return f"{', '.join(where)}: {shown(self.what, most=600)} ({self.done})"


def shown(value: object, *, most: int = 300) -> str:
    r"""Return a third-party value as text for a message: one line, no control characters, not too long.

    Example:
        >>> shown("a\x1b[31mb\nc"), shown("x" * 400)[-20:]
        ('a\\x1b[31mb\\nc', 'xxxxxx... (400 long)')
    """
    text = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in str(value)[: most + 1]
    )
    return text if len(text) <= most else f"{text[:most]}... ({len(str(value))} long)"


class DatasetProblems(ValueError):  # noqa: N818 (public name; it is a list of problems)
    """Raised for a dataset that training refuses; ``problems`` lists everything that is wrong with it."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__(
            f"dataset {name}: {describe(problems)}\n"
            "Fix them, or set DATASETS.ON_PROBLEM drop to train without the affected data"
        )


def describe(problems: list[Problem]) -> str:
    """Return the number of problems, then one line each for the first ``MOST_SHOWN`` of them."""
    lines = [f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"]
    lines += [f"  {problem}" for problem in problems[:MOST_SHOWN]]
    if len(problems) > MOST_SHOWN:
        rest = Counter(problem.done for problem in problems[MOST_SHOWN:])
        lines.append(
            f"  and {len(problems) - MOST_SHOWN} more ({', '.join(f'{n} {done}' for done, n in rest.items())})"
        )
    return "\n".join(lines)
