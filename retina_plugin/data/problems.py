"""What can be wrong with a dataset, said all at once."""

import math
from collections import Counter
from dataclasses import dataclass

MOST_SHOWN = 50


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        file: the file to look into.
        what: what is wrong with it and what is expected.
        image: id or name of the image, if the problem is about one.
        annotation: id or number of the annotation, if it is about one.
        done: what becomes of it when training goes on all the same.
    """

    file: str
    what: str
    image: str | int | None = None
    annotation: str | int | None = None
    done: str = "left out"

    def __str__(self) -> str:
        where = [self.file]
        where += [f"image {self.image}"] if self.image is not None else []
        where += [f"annotation {self.annotation}"] if self.annotation is not None else []
        return f"{', '.join(where)}: {self.what} ({self.done})"


class DatasetProblems(ValueError):
    """A dataset that training refuses; ``problems`` holds all of them."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__(f"dataset {name}: {describe(problems)}\nMend them, or train without them by DATASETS.ON_PROBLEM drop")


def describe(problems: list[Problem]) -> str:
    """A count, then a line for each problem (the first ``MOST_SHOWN`` of them)."""
    lines = [f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"]
    lines += [f"  {problem}" for problem in problems[:MOST_SHOWN]]
    if len(problems) > MOST_SHOWN:
        rest = Counter(problem.done for problem in problems[MOST_SHOWN:])
        lines.append(f"  and {len(problems) - MOST_SHOWN} more ({', '.join(f'{n} {done}' for done, n in rest.items())})")
    return "\n".join(lines)


def checked_box(
    box: list[float], *, width: int, height: int, file: str, image: str | int, annotation: str | int
) -> tuple[list[float] | None, Problem | None]:
    """Check one box against its image, with a pixel of tolerance at the border.

    Args:
        box: XYXY, absolute pixels of the original image.
        width, height: of the image, pixels.
        file, image, annotation: where the box stands, for the message.

    Returns:
        The box to use, clipped to the image, or None; and what was wrong, or None.
    """

    def problem(what: str, done: str = "left out") -> Problem:
        return Problem(file, f"box {[round(v, 2) for v in box]} {what}", image, annotation, done)

    if not all(math.isfinite(v) for v in box):
        return None, Problem(file, f"box {box} has values that are not finite", image, annotation)
    x1, y1, x2, y2 = box
    if 0 < max(box) <= 1 and min(width, height) > 2:
        return None, problem("is in fractions of the image, where pixels are expected")
    if x2 < x1 or y2 < y1:
        return None, problem("has its corners swapped (expected x1 < x2 and y1 < y2)")
    if x2 == x1 or y2 == y1:
        return None, problem("has zero size")
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return None, problem(f"lies outside the image of {width}x{height}")
    clipped = [max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))]
    if max(abs(a - b) for a, b in zip(box, clipped)) > 1:
        return clipped, problem(f"reaches beyond the image of {width}x{height}", "clipped to it")
    return clipped, None
