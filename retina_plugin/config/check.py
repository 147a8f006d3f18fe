"""Mistakes that are caught before anything is built: values that are not allowed, and values that contradict each other."""

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
"""Functions of other parts that raise ValueError for a config that they cannot work with; ``retina_plugin/__init__.py`` adds them."""

WARNED_BY: list[Callable[[CfgNode], list[str]]] = []
"""Functions of other parts that name what is set and has no effect; ``retina_plugin/__init__.py`` adds them."""


def defaults_of_all() -> CfgNode:
    """Detectron2's defaults with the plugin's."""
    cfg = get_cfg()
    add_retina_config(cfg)
    return cfg


def known_records(cfg: CfgNode) -> dict[str, Key]:
    """The records of the keys that ``cfg`` has: another version of Detectron2 may lack one of its own."""
    present = set(all_keys(cfg))
    return {name: key for name, key in {**known_keys(), **DETECTRON2_KEYS}.items() if name in present}


def value_problems(cfg: CfgNode) -> list[Problem]:
    """Values that no config may have; nothing may be derived from a config that has one.

    Args:
        cfg: with the plugin's keys.

    Raises:
        ValueError: it lacks them.
    """
    if missing := [key for key in known_keys() if key not in all_keys(cfg)]:
        raise ValueError(
            f"the config lacks keys of the plugin: {', '.join(missing)}; call retina_plugin.add_retina_config(cfg) first, or read it with load_config"
        )
    found = [(name, problem) for name, key in known_records(cfg).items() if (problem := key.problem(cfg))]
    wrong = {name for name, _ in found}
    return found + [(keys, problem) for keys, problem in contradictions.before_resolving(cfg, wrong)]


def check_values(cfg: CfgNode) -> None:
    """Refuse values that no config may have.

    Raises:
        ValueError: with every problem found, one a line: key, value, and what is allowed.
    """
    refuse(value_problems(cfg))


def config_problems(cfg: CfgNode, *, training: bool = False) -> list[Problem]:
    """What would train something else than was meant.

    Args:
        cfg: resolved.
        training: whether it is about to be trained, so that its datasets have to be there.
    """
    meant = MEANT if contradictions.is_retinanet(cfg) else {}
    found = [
        (key, f"{key} is set to {get_key(cfg, key)!r}, which has no effect on a RetinaNet; set {meant}")
        for key, meant in meant.items()
        if get_key(cfg, key) != get_key(untouched(), key)
    ]
    found += contradictions.after_resolving(cfg, training=training)
    for refuses in REFUSED_BY:
        try:
            refuses(cfg)
        except ValueError as error:
            found.append(("", str(error)))
    return found


def problems_beside(cfg: CfgNode, wrong: list[Problem]) -> list[Problem]:
    """What else is wrong with a config that has values of :func:`value_problems`, so that all is said at once.

    Looked for with defaults in their place; what those have to do with is left out.
    """
    mended, keys, defaults = cfg.clone(), {key for names, _ in wrong for key in names.split()}, defaults_of_all()
    mended.defrost()
    for key in keys:
        set_key(mended, key, get_key(defaults, key))
    try:
        with not_said():
            resolve_config(mended)
    except ValueError:
        return []
    return [(names, problem) for names, problem in config_problems(mended) if names and not keys & set(names.split())]


def warn_of_unread(cfg: CfgNode) -> None:
    """Log what is set and has no effect, once."""
    if not contradictions.is_retinanet(cfg):
        return
    unread = [
        key
        for key in all_keys(cfg)
        if key.startswith(NOT_READ) and key not in MEANT and get_key(cfg, key) != get_key(untouched(), key)
    ]
    warnings = [f"{', '.join(unread)}: set, but a RetinaNet does not read it"] if unread else []
    for text in (*warnings, *(text for names in WARNED_BY for text in names(cfg))):
        say_once(cfg, logger, logging.WARNING, text)


def refuse_unresolved(cfg: CfgNode) -> None:
    """Refuse a config that a model would only half use, because what follows from it has not been filled in.

    Raises:
        ValueError: its values are not allowed, or it has to be resolved; with what would change.
    """
    check_values(cfg)
    if changes := unresolved(cfg, ("MODEL.RETINANET.", "MODEL.RESNETS.", "MODEL.PIXEL", "INPUT.FORMAT")):
        raise ValueError(
            f"this config is not resolved yet: {'; '.join(changes)}. Pass it through cfg = retina_plugin.ready_config(cfg), or read it with retina_plugin.load_config"
        )


def refuse(found: Iterable[Problem], where: dict[str, str] | None = None) -> None:
    """Raise all problems at once, if there are any.

    Args:
        found: each with the keys that it is about.
        where: file and line that set a key.

    Raises:
        ValueError: with one line for each.
    """
    lines = []
    for keys, problem in found:
        places = dict.fromkeys(where[key] for key in keys.split() if where and where.get(key))
        lines.append(problem + (f" ({'; '.join(places)})" if places else ""))
    if lines:
        raise ValueError("\n  ".join(["the configuration cannot work:", *dict.fromkeys(lines)]))
