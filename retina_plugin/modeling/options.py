"""Config keys against the variants that are chosen: names that do not exist, and options that nothing reads."""

from fvcore.common.registry import Registry

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY

from retina_plugin.modeling.assignment import ASSIGNER_REGISTRY
from retina_plugin.modeling.head import HEAD_REGISTRY
from retina_plugin.modeling.losses import BOX_LOSS_REGISTRY, CLS_LOSS_REGISTRY
from retina_plugin.modeling.neck import NECK_REGISTRY, TOP_BLOCK_REGISTRY
from retina_plugin.registry import SlotRegistry

OWN_SLOTS = (CLS_LOSS_REGISTRY, BOX_LOSS_REGISTRY, ASSIGNER_REGISTRY, NECK_REGISTRY, HEAD_REGISTRY, TOP_BLOCK_REGISTRY)

SLOTS: dict[str, Registry] = {
    **{registry.key: registry for registry in OWN_SLOTS},
    "MODEL.BOTTOM_UP.NAME": BACKBONE_REGISTRY,
    "MODEL.ANCHOR_GENERATOR.NAME": ANCHOR_GENERATOR_REGISTRY,
}
"""Slots of the detector by the key that chooses; their variants say with ``registry.reads`` which keys they read."""

NAMES: dict[str, Registry] = {**SLOTS, "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY, "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY}
"""Every key whose value is the name of something registered."""

BASE_VALUES = {"MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0}
"""Values of configs/Base-RetinaNet.yaml that are not detectron2's defaults: who has them has set nothing."""


def _value(cfg: CfgNode, key: str) -> object:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def unknown_variants(cfg: CfgNode) -> list[str]:
    """Say for every slot whose variant does not exist which do; nothing is built. An empty list if all exist.

    Also for slots that a config does not come to use, such as a top block without levels for it.
    """
    problems = []
    for key, registry in NAMES.items():
        name = _value(cfg, key)
        if name in registry:
            continue
        if isinstance(registry, SlotRegistry):
            try:
                registry.get(name)
            except ValueError as error:  # which names the known ones and the nearest
                problems.append(str(error))
        else:
            problems.append(f"{key} is {name!r}; known: {', '.join(sorted(known for known, _ in registry))}")
    return problems


def unused_options(cfg: CfgNode, defaults: CfgNode | None = None) -> list[str]:
    """Name every option that is set, that is, not as by default, and that none of the chosen variants reads.

    Args:
        cfg: with the plugin's keys.
        defaults: what counts as not set; None for the defaults of detectron2 and of the plugin.

    Returns:
        A line for each option: its value, what it has no effect with, and the variants that read it.

    Example:
        >>> from detectron2.config import get_cfg
        >>> from retina_plugin import add_retina_config
        >>> cfg = get_cfg()
        >>> add_retina_config(cfg)
        >>> cfg.MODEL.CLS_LOSS.GHM_BINS = 10
        >>> unused_options(cfg)
        ['MODEL.CLS_LOSS.GHM_BINS is 10, which has no effect with MODEL.RETINANET.CLS_LOSS focal; it is an option of ghm']
    """
    if defaults is None:
        from retina_plugin import add_retina_config  # complete only when this module is

        defaults = get_cfg()
        add_retina_config(defaults)
    used, reasons = set(), {}
    for slot, registry in SLOTS.items():
        chosen = _value(cfg, slot)
        declared = {name: getattr(variant, "config_keys", None) for name, variant in registry}
        readers: dict[str, list[str]] = {}
        for name, keys in declared.items():
            for key in keys or ():
                readers.setdefault(key, []).append(name)
        mine = declared.get(chosen)
        if isinstance(registry, SlotRegistry):
            own = {name: set(registry.option_keys(name).values()) for name in declared}
            used |= own.get(chosen, set())
            for name, keys in own.items():
                if name != chosen:
                    reasons.update(dict.fromkeys(keys, f"with {slot} {chosen}; it is an option of {name}"))
        for key, names in readers.items():
            if mine is None or key in mine and (mine[key] is None or mine[key].holds(cfg)):
                used.add(key)
            elif key in mine:
                reasons[key] = mine[key].otherwise
            else:
                reasons.setdefault(key, f"with {slot} {chosen}; it is an option of {', '.join(sorted(names))}")
    return [
        f"{key} is {_value(cfg, key)!r}, which has no effect {reason}"
        for key, reason in reasons.items()
        if key not in used and _value(cfg, key) != _value(defaults, key) and _value(cfg, key) != BASE_VALUES.get(key, _value(defaults, key))
    ]
