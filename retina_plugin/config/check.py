"""Mistakes that are caught before anything is built: values that are not allowed, and values that contradict each other."""

import logging
from collections.abc import Callable, Iterable

from detectron2.config import CfgNode

from retina_plugin.config import contradictions
from retina_plugin.config.detectron2_keys import DETECTRON2_KEYS, MEANT, NOT_READ, untouched
from retina_plugin.config.key import Key, all_keys, get_key, say_once
from retina_plugin.config.keys import KEYS
from retina_plugin.config.resolve import unresolved

logger = logging.getLogger(__name__)

REFUSED_BY: list[Callable[[CfgNode], object]] = []
"""Functions of other parts that raise ValueError for a config that they cannot work with; ``retina_plugin/__init__.py`` adds them."""

WARNED_BY: list[Callable[[CfgNode], list[str]]] = []
"""Functions of other parts that name what is set and has no effect; ``retina_plugin/__init__.py`` adds them."""


def known_records(cfg: CfgNode) -> dict[str, Key]:
    """The records of the keys that ``cfg`` has: another version of Detectron2 may lack one of its own."""
    present = set(all_keys(cfg))
    return {name: key for name, key in {**KEYS, **DETECTRON2_KEYS}.items() if name in present}


def check_values(cfg: CfgNode, where: dict[str, str] | None = None) -> None:
    """Refuse values that no config may have; nothing may be derived from a config before this.

    Args:
        cfg: with the plugin's keys.
        where: file and line that set a key, for the message.

    Raises:
        ValueError: with every problem found, one a line: key, value, and what is allowed.
    """
    if missing := [key for key in KEYS if key not in all_keys(cfg)]:
        raise ValueError(f"the config lacks keys of the plugin: {', '.join(missing)}; call retina_plugin.add_retina_config(cfg) first, or read it with load_config")
    found = [(name, problem) for name, key in known_records(cfg).items() if (problem := key.problem(cfg))]
    wrong = {name for name, _ in found}
    found += [(keys, problem) for keys, problem in contradictions.before_resolving(cfg) if not wrong & set(keys.split())]
    _refuse(found, where or {})


def check_config(cfg: CfgNode, where: dict[str, str] | None = None, *, training: bool = False) -> None:
    """Refuse a resolved config that would train something else than was meant, and warn of what has no effect.

    Args:
        cfg: resolved.
        where: file and line that set a key, for the message.
        training: whether it is about to be trained, so that its datasets have to be there.

    Raises:
        ValueError: with every problem found, one a line.
    """
    found = [
        (key, f"{key} is set to {get_key(cfg, key)!r}, which has no effect on a RetinaNet; set {meant}")
        for key, meant in MEANT.items()
        if get_key(cfg, key) != get_key(untouched(), key)
    ]
    found += contradictions.after_resolving(cfg, training=training)
    for refuses in REFUSED_BY:
        try:
            refuses(cfg)
        except ValueError as error:
            found.append(("", str(error)))
    _refuse(found, where or {})
    unread = [key for key in all_keys(cfg) if key.startswith(NOT_READ) and get_key(cfg, key) != get_key(untouched(), key)]
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


def _refuse(found: Iterable[tuple[str, str]], where: dict[str, str]) -> None:
    """Raise all problems at once; each comes with the keys that it is about, separated by spaces."""
    lines = []
    for keys, problem in found:
        places = dict.fromkeys(where[key] for key in keys.split() if where.get(key))
        lines.append(problem + (f" ({'; '.join(places)})" if places else ""))
    if lines:
        raise ValueError("\n  ".join(["the configuration cannot work:", *dict.fromkeys(lines)]))
