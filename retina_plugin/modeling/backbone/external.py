"""What the backbones from other libraries share: names and strides of their maps, memory layout, refusals."""

from collections.abc import Collection, Iterable, Mapping

from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.modeling.backbone import Backbone

from retina_plugin.modeling.backbone.depthwise import keep_depthwise_in_float32


def stride_of(feature: str) -> int:
    """Return the stride of a map of a bottom-up network.

    Example:
        >>> stride_of("res3")
        8
    """
    return 2 ** int(feature.removeprefix("res"))


def refuse_missing_strides(network: str, features: Iterable[str], offered: Collection[int]) -> None:
    """Refuse a network that lacks a requested map.

    Args:
        network: library and name, such as "timm's resnet18".
        features: requested maps, "res2".."res5".
        offered: strides of the maps of the network, in the order to report.

    Raises:
        ValueError: if a stride is missing.
    """
    if missing := [stride for stride in map(stride_of, features) if stride not in offered]:
        raise ValueError(f"{network} has feature maps at strides {list(offered)}, not at {missing}")


def refuse_freezing(cfg: CfgNode, builder: str) -> None:
    """Refuse MODEL.BACKBONE.FREEZE_AT for networks that have no common stages to freeze.

    Args:
        cfg: the config.
        builder: name of the backbone builder, for the message.

    Raises:
        ValueError: if FREEZE_AT is not 0.
    """
    if freeze_at := cfg.MODEL.BACKBONE.FREEZE_AT:
        raise ValueError(f"{builder} trains the whole network: set MODEL.BACKBONE.FREEZE_AT 0, not {freeze_at}")


class ExternalBackbone(Backbone):
    """A network of another library as a Detectron2 ``Backbone``.

    Subclasses return the maps of ``net`` by name from ``maps_of``.

    Args:
        net: the network; its depthwise convolutions are replaced by faster ones for a CPU.
        channels: channels of each map by name, "res2".."res5", finest first.
        channels_last: names of the maps (N, H, W, C); the others are (N, C, H, W).
    """

    def __init__(self, net: nn.Module, *, channels: Mapping[str, int], channels_last: Collection[str] = ()) -> None:
        super().__init__()
        self.net = net
        keep_depthwise_in_float32(self.net)
        self._channels_last = frozenset(channels_last)
        self._out_features = list(channels)
        self._out_feature_channels = dict(channels)
        self._out_feature_strides = {feature: stride_of(feature) for feature in channels}

    def maps_of(self, images: Tensor) -> dict[str, Tensor]:
        """Map images (N, C, H, W) to the maps of ``net`` by name, in its own memory layout."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map images (N, C, H, W) to maps (N, Ci, H / stride, W / stride) by name."""
        maps = self.maps_of(images)
        return {name: x.permute(0, 3, 1, 2) if name in self._channels_last else x for name, x in maps.items()}
