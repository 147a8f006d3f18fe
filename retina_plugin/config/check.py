"""Checks of a config before anything is built: values that are not allowed, and values that contradict each other."""

import logging
from collections.abc import Callable, Iterable

from detectron2.config import CfgNode, get_cfg

from retina_plugin.config import contradictions
from retina_plugin.config.contradictions import Problem
from retina_plugin.config.detectron2_keys import DETECTRON2_KEYS, MEANT, NOT_READ, untouched
from retina_plugin.config.key import Key, all_keys, get_key, say_once, set_key
from retina_plugin.config.keys import add_retina_config, known_keys
from retina_plugin.config.resolve import not_said, resolve_config, unresolved

logger = logging.getLogger(__name__)

REFUSED_BY: list[Callable[[CfgNode], object]] = []
"""Functions of other parts that raise ValueError for a config they cannot work with.

``retina_plugin/__init__.py`` adds them.
"""

WARNED_BY: list[Callable[[CfgNode], list[str]]] = []
"""Functions of other parts that list what is set and has no effect; ``retina_plugin/__init__.py`` adds them."""


def defaults_of_all() -> CfgNode:
    """Return the defaults of Detectron2 and of the plugin."""
    cfg = get_cfg()
    add_retina_config(cfg)
    return cfg


def known_records(cfg: CfgNode) -> dict[str, Key]:
    """Return the records of the keys that ``cfg`` has: a different version of Detectron2 may lack some of its keys."""
    present = set(all_keys(cfg))
    return {name: key for name, key in {**known_keys(), **DETECTRON2_KEYS}.items() if name in present}


def value_problems(cfg: CfgNode) -> list[Problem]:
    """Return the values that no config may have; nothing may be derived from a config with such values.

    Args:
        cfg: A config with the plugin's keys.

    Raises:
        ValueError: If it lacks keys of the plugin.
    """
    present = set(all_keys(cfg))
    if missing := [key for key in known_keys() if key not in present]:
        raise ValueError(
            f"the config lacks keys of the plugin: {', '.join(missing)}; "
            "call retina_plugin.add_retina_config(cfg) first, or read it with load_config"
        )
    records = known_records(cfg)
    found = [Problem(name, problem) for name, key in records.items() if (problem := key.problem(cfg))]
    return [*found, *contradictions.before_resolving(cfg, {problem.keys for problem in found})]


def check_values(cfg: CfgNode) -> None:
    """Refuse values that no config may have.

    Raises:
        ValueError: With every problem found, one per line: key, value and what is allowed.
    """
    refuse(value_problems(cfg))


def config_problems(cfg: CfgNode, *, training: bool = False) -> list[Problem]:
    """Return what makes a config do something other than what was meant.

    Args:
        cfg: A resolved config.
        training: Whether it is about to be trained, so that its datasets must exist.
    """
    meant = MEANT if contradictions.is_retinanet(cfg) else {}
    found = [
        Problem(key, f"{key} is set to {get_key(cfg, key)!r}, which has no effect on a RetinaNet; set {other}")
        for key, other in meant.items()
        if _is_changed(cfg, key)
    ]
    found += contradictions.after_resolving(cfg, training=training)
    messages = (_message(refuses, cfg) for refuses in REFUSED_BY)
    return found + [Problem("", message) for message in messages if message]


def _is_changed(cfg: CfgNode, key: str) -> bool:
    """Return whether a key of Detectron2 differs from its default."""
    return get_key(cfg, key) != get_key(untouched(), key)


def _message(refuses: Callable[[CfgNode], object], cfg: CfgNode) -> str:
    """Return the message with which a function refuses a config, or ""."""
    try:
        refuses(cfg)
    except ValueError as error:
        return str(error)
    return ""


def problems_beside(cfg: CfgNode, wrong: list[Problem]) -> list[Problem]:
    """Return the other problems of a config with values that are not allowed, so that all can be reported at once.

    They are searched with defaults in place of these values. Problems that involve the replaced keys are left out.

    Args:
        cfg: The config; it is not modified.
        wrong: What :func:`value_problems` returns for it.
    """
    repaired, keys, defaults = cfg.clone(), {key for names, _ in wrong for key in names.split()}, defaults_of_all()
    repaired.defrost()
    for key in keys:
        set_key(repaired, key, get_key(defaults, key))
    try:
        with not_said():
            resolve_config(repaired)
    except ValueError:
        return []
    return [problem for problem in config_problems(repaired) if problem.keys and not keys & set(problem.keys.split())]


def warn_of_unread(cfg: CfgNode) -> None:
    """Log what is set and has no effect, once per config."""
    if not contradictions.is_retinanet(cfg):
        return
    others = [key for key in all_keys(cfg) if key.startswith(NOT_READ) and key not in MEANT]
    unread = [key for key in others if _is_changed(cfg, key)]
    warnings = [f"{', '.join(unread)}: set, but a RetinaNet does not read it"] if unread else []
    for unused in WARNED_BY:
        warnings += unused(cfg)
    for text in warnings:
        say_once(cfg, logger, logging.WARNING, text)


def refuse_unresolved(cfg: CfgNode) -> None:
    """Refuse a config from which not everything has been derived, as a model would use only a part of it.

    Raises:
        ValueError: If values are not allowed, or the config must be resolved; with what would change.
    """
    check_values(cfg)
    if changes := unresolved(cfg, ("MODEL.RETINANET.", "MODEL.RESNETS.", "MODEL.PIXEL", "INPUT.FORMAT")):
        raise ValueError(
            f"this config is not resolved yet: {'; '.join(changes)}. "
            "Pass it through cfg = retina_plugin.ready_config(cfg), or read it with retina_plugin.load_config"
        )


def refuse(found: Iterable[Problem], where: dict[str, str] | None = None) -> None:
    """Raise all problems at once, if there are any.

    Args:
        found: The problems.
        where: File and line that set a key, by key.

    Raises:
        ValueError: With one line per problem.
    """
    lines = []
    for keys, problem in found:
        places = dict.fromkeys(where[key] for key in keys.split() if where and where.get(key))
        lines.append(problem + (f" ({'; '.join(places)})" if places else ""))
    if lines:
        raise ValueError("\n  ".join(["the configuration cannot work:", *dict.fromkeys(lines)]))
