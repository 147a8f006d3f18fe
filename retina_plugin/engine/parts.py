"""Parts of the detector by the names of their tensors, and how much of each a weights file holds."""

from dataclasses import dataclass

PARTS = {
    "backbone.bottom_up.": "backbone",
    "backbone.": "neck",
    "head.": "head",
    "proposal_generator.": "proposals",
    "roi_heads.": "regions",
    "": "rest",
}
"""Part of the detector by the prefix of its tensors' names; the first that matches counts."""


def part_of(name: str) -> str:
    """Return the part of the detector that a tensor belongs to, by its name.

    Example:
        >>> part_of("backbone.bottom_up.stem.conv1.weight"), part_of("backbone.fpn_lateral3.weight")
        ('backbone', 'neck')
        >>> part_of("loss_normalizer")
        'rest'
    """
    return next(part for prefix, part in PARTS.items() if name.startswith(prefix))


@dataclass(frozen=True)
class Part:
    """How much of a part of the detector a weights file holds.

    Attributes:
        name: one of the values of :data:`PARTS`.
        total: number of tensors of the part.
        absent: how many are not in the file.
        misfit: how many have a different shape there.
    """

    name: str
    total: int
    absent: int
    misfit: int

    @property
    def loaded(self) -> int:
        """Number of tensors that came from the file."""
        return self.total - self.absent - self.misfit

    def line(self) -> str:
        """Return one line for the log."""
        counts = ((self.absent, "not in the file"), (self.misfit, "with a different shape there"))
        notes = ", ".join(f"{count} {what}" for count, what in counts if count)
        line = f"{self.name:<9}{self.loaded:>5} of {self.total:<5} tensors loaded"
        return f"{line}; {notes}: they stay as initialised" if notes else line


def parts_loaded(names: list[str], missing: list[str], wrong_shape: list[str]) -> list[Part]:
    """Count for each part of a model how many of its tensors a file holds.

    Args:
        names: of all tensors of the model.
        missing: names that the file lacks.
        wrong_shape: names that have a different shape in the file.

    Returns:
        The parts that the model has, in the order of :data:`PARTS`.
    """
    parts = []
    for prefix, part in PARTS.items():
        mine = [name for name in names if name.startswith(prefix)]
        names = [name for name in names if not name.startswith(prefix)]
        absent, misfit = (sum(name in kind for name in mine) for kind in (set(missing), set(wrong_shape)))
        if mine:
            parts.append(Part(part, len(mine), absent, misfit))
    return parts


def loading_summary(parts: list[Part]) -> str:
    """Return in one line which parts of a model came from a file, if each did so completely or not at all.

    Args:
        parts: from :func:`parts_loaded`.

    Example:
        >>> loading_summary([Part("backbone", 240, 0, 0), Part("head", 44, 44, 0)])
        'backbone (240 tensors) from the file; head (44) as initialised'
    """
    loaded = [f"{part.name} ({part.total} tensors)" for part in parts if part.loaded]
    random = [f"{part.name} ({part.total})" for part in parts if not part.loaded]
    if not random:
        return f"all {sum(part.total for part in parts)} tensors"
    return f"{', '.join(loaded)} from the file; {', '.join(random)} as initialised"


def loading_table(parts: list[Part], unused: list[str]) -> str:
    """Return how much of a file was loaded into a model, one line per part.

    Args:
        parts: from :func:`parts_loaded`.
        unused: names in the file that the model does not have.
    """
    lines = [part.line() for part in parts]
    if unused:
        more = f" and {len(unused) - 4} more" if len(unused) > 4 else ""
        lines.append(f"not used from the file: {', '.join(unused[:4])}{more}")
    return "\n".join(lines)
