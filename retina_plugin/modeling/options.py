"""Detection of options that are set but not read by any chosen variant."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY

from retina_plugin.config import all_keys, defaults_of_all, get_key
from retina_plugin.registry import SLOTS, Condition

DETECTRON2_SLOTS = {"MODEL.BOTTOM_UP.NAME": BACKBONE_REGISTRY, "MODEL.ANCHOR_GENERATOR.NAME": ANCHOR_GENERATOR_REGISTRY}
"""Slots that use a registry of Detectron2, by the key that chooses from it; the plugin's own are in ``registry.SLOTS``.

Variants of both declare with ``registry.reads`` which keys they read.
"""

OWN_PYRAMID = "build_retina_pyramid_backbone"
"""The backbone that is assembled from MODEL.BOTTOM_UP, MODEL.FPN and a top block."""

BASE_VALUES = {"MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0}
"""Values of configs/Base-RetinaNet.yaml that differ from Detectron2's defaults; they do not count as set."""


def unused_options(cfg: CfgNode, defaults: CfgNode | None = None) -> list[str]:
    """List every option that differs from its default and that none of the chosen variants reads.

    Args:
        cfg: config with the plugin's keys.
        defaults: values that count as not set; None: the defaults of Detectron2 and of the plugin.

    Returns:
        One line per option: its value, the choice with which it has no effect, and the variants that read it.

    Example:
        >>> from detectron2.config import get_cfg
        >>> from retina_plugin import add_retina_config
        >>> cfg = get_cfg()
        >>> add_retina_config(cfg)
        >>> cfg.MODEL.CLS_LOSS.GHM_BINS = 10
        >>> print(*unused_options(cfg))
        MODEL.CLS_LOSS.GHM_BINS is 10, which has no effect with MODEL.RETINANET.CLS_LOSS focal; it is an option of ghm
    """
    defaults = defaults or defaults_of_all()
    used: set[str] = set()
    reasons: dict[str, str] = {}
    known = set(all_keys(cfg))
    for slot, registry in {**SLOTS, **DETECTRON2_SLOTS}.items():
        if slot not in known:
            continue  # such as a slot of cards
        chosen = _chosen(cfg, slot)
        declared = {name: getattr(variant, "config_keys", None) for name, variant in registry}
        readers: dict[str, list[str]] = {}
        for name, keys in declared.items():
            for key in keys or ():
                readers.setdefault(key, []).append(name)
        for key, names in readers.items():
            reason = _reason_unread(cfg, key, [declared.get(name) for name in chosen])
            if reason is None:
                used.add(key)
            elif reason:
                reasons[key] = reason
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
        if key not in used and _is_set(cfg, key, defaults)
    ]


def _chosen(cfg: CfgNode, slot: str) -> set[str]:
    """Return the names of the variants that a config chooses for a slot."""
    if slot == "MODEL.BOTTOM_UP.NAME" and cfg.MODEL.BACKBONE.NAME != OWN_PYRAMID:
        return {cfg.MODEL.BACKBONE.NAME}  # a backbone with its own pyramid has no bottom-up network
    chosen: Any = get_key(cfg, slot)
    return {chosen} if isinstance(chosen, str) else set(chosen)


def _reason_unread(cfg: CfgNode, key: str, chosen: list[Mapping[str, Condition | None] | None]) -> str | None:
    """Return why none of the chosen variants reads a key: None if one does, "" if none declares it.

    Args:
        cfg: the config.
        key: dotted key.
        chosen: the declared keys of the chosen variants; None for a variant that reads everything.
    """
    reason = ""
    for keys in chosen:
        if keys is None:
            return None
        if key not in keys:
            continue
        condition = keys[key]
        if condition is None or condition.holds(cfg):
            return None
        reason = reason or condition.otherwise
    return reason


def _is_set(cfg: CfgNode, key: str, defaults: CfgNode) -> bool:
    """Return whether a key differs from its default and from its value in the base config."""
    value, default = get_key(cfg, key), get_key(defaults, key)
    return value != default and value != BASE_VALUES.get(key, default)


def _of_others(slot: str, chosen: set[str], names: list[str]) -> str:
    """Return the reason for a key that only variants other than the chosen ones read."""
    return f"with {slot} {', '.join(sorted(chosen)) or 'empty'}; it is an option of {', '.join(sorted(names))}"
