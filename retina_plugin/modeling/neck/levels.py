"""The levels of the pyramid, and everything that follows from the key that names them."""

from dataclasses import dataclass

from detectron2.config import CfgNode

LAST_BOTTOM_UP_LEVEL = 5
"""Classification networks end at stride 32 = 2**5; the levels above come from the top block."""


@dataclass(frozen=True)
class PyramidLevels:
    """Levels l of the pyramid, each with stride 2**l.

    Args:
        levels: consecutive, ascending, within 2..9.

    Example:
        >>> pyramid = PyramidLevels((3, 4, 5, 6, 7))
        >>> pyramid.bottom_up_features, pyramid.features, pyramid.num_top_levels
        (['res3', 'res4', 'res5'], ['p3', 'p4', 'p5', 'p6', 'p7'], 2)

    Raises:
        ValueError: if the levels are not consecutive, or not within the allowed range.
    """

    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        levels = self.levels
        if not levels or list(levels) != list(range(levels[0], levels[0] + len(levels))):
            raise ValueError(
                f"MODEL.RETINANET.LEVELS must be consecutive and ascending, such as [3, 4, 5, 6, 7]; got {list(levels)}"
            )
        if levels[0] < 2 or levels[0] > LAST_BOTTOM_UP_LEVEL or levels[-1] > 9:
            raise ValueError(
                f"MODEL.RETINANET.LEVELS must start at 2..{LAST_BOTTOM_UP_LEVEL}, where the backbone has a feature "
                f"map, and end at 9 or below; got {list(levels)}"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "PyramidLevels":
        """Read MODEL.RETINANET.LEVELS, and check Detectron2's keys for the same fact against it.

        Raises:
            ValueError: if IN_FEATURES of the head or of the pyramid is set and contradicts the levels.
        """
        pyramid = cls(tuple(cfg.MODEL.RETINANET.LEVELS))
        values = {
            "MODEL.RETINANET.IN_FEATURES": (cfg.MODEL.RETINANET.IN_FEATURES, pyramid.features),
            "MODEL.FPN.IN_FEATURES": (cfg.MODEL.FPN.IN_FEATURES, pyramid.bottom_up_features),
        }
        set_values = {key: (list(got), want) for key, (got, want) in values.items() if got}
        wrong = [f"{key} is {got} but must be {want}" for key, (got, want) in set_values.items() if got != want]
        if wrong:
            raise ValueError(
                f"MODEL.RETINANET.LEVELS is {list(pyramid.levels)}: {'; '.join(wrong)}. "
                "Leave these keys empty to derive them from the levels"
            )
        return pyramid

    @property
    def features(self) -> list[str]:
        """Names of the feature maps that the head reads, finest first."""
        return [f"p{level}" for level in self.levels]

    @property
    def bottom_up_features(self) -> list[str]:
        """Names of the bottom-up feature maps that the pyramid is built on, finest first."""
        return [f"res{level}" for level in self.levels if level <= LAST_BOTTOM_UP_LEVEL]

    @property
    def num_top_levels(self) -> int:
        """Number of levels that the top block adds."""
        return sum(level > LAST_BOTTOM_UP_LEVEL for level in self.levels)
