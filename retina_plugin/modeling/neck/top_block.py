"""Top blocks: the levels of the pyramid above the backbone's last feature map."""

import fvcore.nn.weight_init as weight_init
from torch import Tensor, nn

from retina_plugin.modeling.neck.levels import PyramidLevels
from retina_plugin.registry import Condition, SlotRegistry, reads

TOP_BLOCK_REGISTRY = SlotRegistry("top block", "MODEL.FPN.TOP_BLOCK", section="MODEL.TOP_BLOCK")
"""``nn.Module`` classes constructed with ``bottom_up_channels``, ``out_channels``, ``num_levels``, ``last_level``.

They have the attributes ``num_levels`` and ``in_feature`` that Detectron2's FPN reads, and map that feature
(N, C, H, W) to ``num_levels`` maps (N, out_channels, H / 2**i, W / 2**i), i = 1, 2, ...
"""

reads_own_name = reads(
    when={
        "MODEL.FPN.TOP_BLOCK": Condition(
            lambda cfg: PyramidLevels(tuple(cfg.MODEL.RETINANET.LEVELS)).num_top_levels > 0,
            "because MODEL.RETINANET.LEVELS has no level above the backbone's",
        )
    }
)
"""Declares for top blocks that add levels when their key has an effect."""


class ConvTopBlock(nn.Module):
    """3x3 convolutions of stride 2, with ReLU between them; the first reads ``in_feature``.

    Args:
        in_feature: name of the map that the first convolution reads.
        in_channels: channels of that map.
        out_channels: channels of the new levels.
        num_levels: number of new levels.
        last_level: level of ``in_feature``.

    Source: Lin et al. 2017, section 4, footnote 2: P6 comes from C5, P7 from ReLU(P6). Parameters are called p6, p7,
    ... as in Detectron2.
    """

    def __init__(
        self, *, in_feature: str, in_channels: int, out_channels: int, num_levels: int, last_level: int
    ) -> None:
        super().__init__()
        self.in_feature, self.num_levels = in_feature, num_levels
        for level in range(last_level + 1, last_level + num_levels + 1):
            conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)
            weight_init.c2_xavier_fill(conv)
            self.add_module(f"p{level}", conv)
            in_channels = out_channels

    def forward(self, feature: Tensor) -> list[Tensor]:
        """Map a feature (N, C, H, W) to ``num_levels`` maps (N, out_channels, H / 2**i, W / 2**i)."""
        outputs: list[Tensor] = []
        for conv in self.children():
            feature = conv(nn.functional.relu(feature) if outputs else feature)
            outputs.append(feature)
        return outputs


@TOP_BLOCK_REGISTRY.register("conv_c5")
@reads_own_name
class TopBlockFromC5(ConvTopBlock):
    """P6 from C5, the backbone's last map: the paper's choice (Lin et al. 2017, section 4)."""

    def __init__(self, *, bottom_up_channels: int, out_channels: int, num_levels: int, last_level: int) -> None:
        super().__init__(
            in_feature=f"res{last_level}",
            in_channels=bottom_up_channels,
            out_channels=out_channels,
            num_levels=num_levels,
            last_level=last_level,
        )


@TOP_BLOCK_REGISTRY.register("conv_p5")
@reads_own_name
class TopBlockFromP5(ConvTopBlock):
    """P6 from P5, the pyramid's last map: fewer weights (FCOS, Tian et al. 2019, section 3.2, and torchvision)."""

    def __init__(self, *, bottom_up_channels: int, out_channels: int, num_levels: int, last_level: int) -> None:
        super().__init__(
            in_feature=f"p{last_level}",
            in_channels=out_channels,
            out_channels=out_channels,
            num_levels=num_levels,
            last_level=last_level,
        )


@TOP_BLOCK_REGISTRY.register("max_pool")
@reads_own_name
class MaxPoolTopBlock(nn.Module):
    """P6 as every second pixel of P5, and so on (Lin et al. 2017, *Feature Pyramid Networks*, section 4.1)."""

    def __init__(self, *, bottom_up_channels: int, out_channels: int, num_levels: int, last_level: int) -> None:
        super().__init__()
        self.in_feature, self.num_levels = f"p{last_level}", num_levels

    def forward(self, feature: Tensor) -> list[Tensor]:
        """Map a feature (N, C, H, W) to ``num_levels`` maps (N, C, H / 2**i, W / 2**i)."""
        outputs: list[Tensor] = []
        for _ in range(self.num_levels):
            feature = nn.functional.max_pool2d(feature, kernel_size=1, stride=2)
            outputs.append(feature)
        return outputs


@TOP_BLOCK_REGISTRY.register("none")
@reads("MODEL.FPN.TOP_BLOCK")
class NoTopBlock:
    """No levels above the backbone's (Lin et al. 2017, *Feature Pyramid Networks*, section 3).

    Raises:
        ValueError: if MODEL.RETINANET.LEVELS requires such levels.
    """

    def __init__(self, *, num_levels: int, last_level: int) -> None:
        raise ValueError(
            f"MODEL.FPN.TOP_BLOCK is 'none', but MODEL.RETINANET.LEVELS goes up to {last_level + num_levels}, "
            f"and the backbone ends at {last_level}"
        )
