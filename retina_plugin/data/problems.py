"""What can be wrong with a dataset: its kinds, and how each is said."""

from collections import Counter
from dataclasses import dataclass
from enum import Enum

MOST_SHOWN = 50


class Kind(Enum):
    """A kind of problem: whether it makes a check fail, what it is called, and how it is mended."""

    FILE = (
        "error",
        "annotation files that cannot be read",
        "write or copy the file again; what it says is missing from the data",
    )
    ANNOTATION = (
        "error",
        "annotations that cannot be used as they are",
        "mend the annotations, or let --fix leave out what each line says",
    )
    CLIPPED = ("error", "boxes that reach beyond their image", "mend the boxes, or let --fix cut them at the border")
    MISSING = (
        "error",
        "images that are named and not there",
        "copy the images, or take them out of the annotations (--fix does)",
    )
    IMAGE = (
        "error",
        "images that cannot be read",
        "copy the images again, or take them out of the annotations (--fix does)",
    )
    SIZE = (
        "error",
        "images of another size than their annotations say",
        "give the annotations the size of the image as it is shown, or resize the image back (--fix leaves them out)",
    )
    LOST = ("error", "annotations without an image", "copy the images, or take the annotations out")
    SPLIT = (
        "error",
        "images that are in two splits",
        "leave each image in one split only: the score on images that were trained on means nothing (--fix takes them out of the later split)",
    )
    TWICE = ("error", "images that are twice in a split", "leave one of them (--fix does)")
    EMPTY = ("error", "splits without anything to train on", "see what was left out above")
    CLASSES = (
        "error",
        "classes that are not known",
        "add the class to the card, or see that its name is spelled alike everywhere",
    )
    SCALED = (
        "warning",
        "images of another size than their annotations say, in the same shape",
        "nothing, if the images were resized after they were annotated: the boxes are scaled with them",
    )
    RESIZED = ("warning", "images without a usable size in their annotations", "nothing: the files know their sizes")
    LOOKED_UP = ("warning", "images that are not where the annotations say", "nothing, if the right ones were found")
    ENCODING = ("warning", "text that is not UTF-8", "save the file as UTF-8, and look whether the names are right")
    MERGED = ("warning", "annotations and classes that are there more than once", "nothing: one of each is used")
    SPELLING = ("warning", "classes that are spelled almost alike", "give them one name if they are one class")
    UNUSED_FILE = (
        "warning",
        "annotation files that are not used",
        "nothing, if they are not meant; otherwise name them in a card",
    )
    EXIF = (
        "warning",
        "images that their EXIF data turns",
        "nothing, if the boxes were drawn on the image as it is shown; the plugin turns it as its EXIF data says",
    )
    PIXELS = (
        "warning",
        "images of which not all is used",
        "nothing, if the range and the bands that are named suit the data",
    )
    DUPLICATE = ("warning", "boxes that are there twice", "leave one of them (--fix does)")
    UNUSED_CLASS = (
        "warning",
        "classes without a box",
        "take the class out of the card, or see that its name is spelled alike everywhere",
    )
    UNLABELLED = (
        "warning",
        "images without objects",
        "nothing, if they show no object: DATALOADER.FILTER_EMPTY_ANNOTATIONS and EMPTY_IMAGES say whether they are trained on",
    )
    EXTREME = (
        "warning",
        "images of extreme size or shape",
        "nothing, if they are meant so; MAX_SIZE_TRAIN and MIN_SIZE_TRAIN say what becomes of them",
    )
    TINY = (
        "warning",
        "boxes of which an image at network resolution shows next to nothing",
        "`retina data anchors` shows whether the network can find them",
    )
    CROWDED = (
        "warning",
        "images with more objects than are detected",
        "raise TEST.DETECTIONS_PER_IMAGE above the number of objects",
    )

    def __init__(self, severity: str, title: str, fix: str) -> None:
        self.severity, self.title, self.fix = severity, title, fix

    @property
    def is_error(self) -> bool:
        """Whether a check fails on it."""
        return self.severity == "error"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong or odd.

    Args:
        kind: of what kind.
        file: the file to look into.
        what: what is wrong with it and what is expected.
        image: id or name of the image, if the problem is about one.
        annotation: id or number of the annotation, if it is about one.
        done: what becomes of it when training goes on all the same.
        boxes, images: how many of each are left out because of it.
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
    """The text of a stranger's value in a message: one line, nothing a terminal would obey, not too long.

    Example:
        >>> shown("a\\x1b[31mb\\nc"), shown("x" * 400)[-20:]
        ('a\\\\x1b[31mb\\\\nc', 'xxxxxx... (400 long)')
    """
    text = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in str(value)[: most + 1]
    )
    return text if len(text) <= most else f"{text[:most]}... ({len(str(value))} long)"


class DatasetProblems(ValueError):
    """A dataset that training refuses; ``problems`` holds all of them."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__(
            f"dataset {name}: {describe(problems)}\nMend them, or train without them by DATASETS.ON_PROBLEM drop"
        )


def describe(problems: list[Problem]) -> str:
    """A count, then a line for each problem (the first ``MOST_SHOWN`` of them)."""
    lines = [f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"]
    lines += [f"  {problem}" for problem in problems[:MOST_SHOWN]]
    if len(problems) > MOST_SHOWN:
        rest = Counter(problem.done for problem in problems[MOST_SHOWN:])
        lines.append(
            f"  and {len(problems) - MOST_SHOWN} more ({', '.join(f'{n} {done}' for done, n in rest.items())})"
        )
    return "\n".join(lines)
