"""Config keys against the variants that are chosen: options that nothing reads."""

from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY

from retina_plugin.config import all_keys, defaults_of_all, get_key
from retina_plugin.registry import SLOTS

DETECTRON2_SLOTS = {"MODEL.BOTTOM_UP.NAME": BACKBONE_REGISTRY, "MODEL.ANCHOR_GENERATOR.NAME": ANCHOR_GENERATOR_REGISTRY}
"""Slots of the detector that have one of Detectron2's registries, by the key that chooses; the plugin's own are in ``registry.SLOTS``.
Variants of both say with ``registry.reads`` which keys they read."""

OWN_PYRAMID = "build_retina_pyramid_backbone"
"""The backbone that is put together from MODEL.BOTTOM_UP, MODEL.FPN and a top block."""

BASE_VALUES = {"MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0}
"""Values of configs/Base-RetinaNet.yaml that are not detectron2's defaults: who has them has set nothing."""


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
    defaults = defaults or defaults_of_all()
    used, reasons, known = set(), {}, set(all_keys(cfg))
    for slot, registry in {**SLOTS, **DETECTRON2_SLOTS}.items():
        if slot not in known:
            continue  # a slot of cards, say
        # A backbone with a pyramid of its own stands on no other network.
        alone = slot == "MODEL.BOTTOM_UP.NAME" and cfg.MODEL.BACKBONE.NAME != OWN_PYRAMID
        chosen = cfg.MODEL.BACKBONE.NAME if alone else get_key(cfg, slot)
        chosen = {chosen} if isinstance(chosen, str) else set(chosen)
        declared = {name: getattr(variant, "config_keys", None) for name, variant in registry}
        readers: dict[str, list[str]] = {}
        for name, keys in declared.items():
            for key in keys or ():
                readers.setdefault(key, []).append(name)
        for key, names in readers.items():
            mine = [declared.get(name) for name in chosen]
            if any(keys is None or key in keys and (keys[key] is None or keys[key].holds(cfg)) for keys in mine):
                used.add(key)
            elif said := next((keys[key].otherwise for keys in mine if key in keys), None):
                reasons[key] = said
            else:
                reasons.setdefault(key, _of_others(slot, chosen, names))
        for name in declared if slot in SLOTS else ():
            for key in SLOTS[slot].option_keys(name).values():
                if name in chosen:
                    used.add(key)
                else:
                    reasons.setdefault(key, _of_others(slot, chosen, [name]))
    return [
        f"{key} is {get_key(cfg, key)!r}, which has no effect {reason}"
        for key, reason in reasons.items()
        if key not in used
        and get_key(cfg, key) != get_key(defaults, key)
        and get_key(cfg, key) != BASE_VALUES.get(key, get_key(defaults, key))
    ]


def _of_others(slot: str, chosen: set[str], names: list[str]) -> str:
    return f"with {slot} {', '.join(sorted(chosen)) or 'empty'}; it is an option of {', '.join(sorted(names))}"
