"""A config key as a record, and access to a config by dotted keys."""

import copy
import dataclasses
import difflib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from detectron2.config import CfgNode

from retina_plugin.config.values import Rule, Several, Slot, Text
from retina_plugin.registry import IMPORT_IT

SET_BY_DETECTRON2 = object()
"""Marks a key of Detectron2, whose default the plugin leaves alone."""


@dataclasses.dataclass(frozen=True)
class Key:
    """The record of a config key.

    Args:
        name: Dotted name, such as "MODEL.RETINANET.LEVELS".
        rule: Allowed values.
        meaning: What the key does, in one or two sentences.
        default: Default of a key that the plugin adds.
        unit: Unit of the number, if it has one.
        shown: Representative values that work, for a rule whose own examples do not all fit a RetinaNet.
    """

    name: str
    rule: Rule
    meaning: str
    default: object = SET_BY_DETECTRON2
    unit: str = ""
    shown: tuple = ()

    @property
    def examples(self) -> list:
        """Documented values, or both ends of a range where it has them: all of them work."""
        return list(self.shown) or self.rule.examples()

    @property
    def is_ours(self) -> bool:
        """Whether the plugin adds this key to those of Detectron2."""
        return self.default is not SET_BY_DETECTRON2

    def problem(self, cfg: CfgNode) -> str | None:
        """Return key, value and what is allowed if the key's value in ``cfg`` is not allowed, else None."""
        value = get_key(cfg, self.name)
        if self.rule.allows(value):
            return None
        return f"{self.name} is {value!r}; it must be {self.rule.says()}" + self._hint(value)

    def _hint(self, value: object) -> str:
        """Return how to fix a value that is not allowed, or "" if that cannot be guessed."""
        if isinstance(self.rule, Several) and isinstance(self.rule.rule, Slot) and isinstance(value, list | tuple):
            return f". {IMPORT_IT}"
        if isinstance(self.rule, Text) and isinstance(value, (bool, int, float)):
            return f". Put it in quotes: '{value}'"
        if isinstance(value, str):
            if self.name.startswith("DATASETS.") and self.rule.allows((value,)):
                return f'. In Python ("x") is a string and ("x",) a tuple: write ({value!r},)'
            near = nearest(value, [str(example) for example in self.rule.examples()])
            suggestion = f". Did you mean {near!r}?" if near else ""
            return f"{suggestion or '.'} {IMPORT_IT}" if isinstance(self.rule, Slot) else suggestion
        return ""

    def add_to(self, cfg: CfgNode) -> None:
        """Add the key with its default to ``cfg``, creating its sections, unless ``cfg`` has the key."""
        *nodes, leaf = self.name.split(".")
        for node in nodes:
            if node not in cfg:
                cfg[node] = CfgNode()
            cfg = cfg[node]
        if leaf not in cfg:
            cfg[leaf] = copy.deepcopy(self.default)


def get_key(cfg: CfgNode, key: str) -> object:
    """Return the value of a dotted key, such as "MODEL.RETINANET.LEVELS"."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def set_key(cfg: CfgNode, key: str, value: object) -> None:
    """Set a dotted key of a config that is not frozen.

    Raises:
        AttributeError: If the config is frozen.
    """
    *nodes, leaf = key.split(".")
    for node in nodes:
        cfg = cfg[node]
    setattr(cfg, leaf, value)  # unlike cfg[leaf] = value, this respects a frozen config


def all_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """Return the dotted names of all values in ``cfg``, and of its empty sections."""
    keys: list[str] = []
    for name, value in cfg.items():
        if isinstance(value, CfgNode) and value:
            keys += all_keys(value, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def changed_keys(base: CfgNode, here: CfgNode) -> list[tuple[str, object, object]]:
    """Return (key, value in ``base``, value in ``here``) of the keys of ``here`` that differ; "-" for one it has alone.

    Lists equal tuples, between which YAML makes no difference, and what a section holds that is empty in ``base`` is
    not compared.
    """
    known, found = set(all_keys(base)), []
    for key in all_keys(here):
        old = _as_list(get_key(base, key)) if key in known else "-"
        new = _as_list(get_key(here, key))
        open_section = isinstance(old, CfgNode) and not old
        if old != new and not open_section:
            found.append((key, old, new))
    return found


def _as_list(value: object) -> object:
    """Return a tuple as a list, and anything else unchanged."""
    return list(value) if isinstance(value, tuple) else value


def as_sections(settings: Mapping[str, object]) -> dict[str, Any]:
    """Return values by dotted key as nested sections, with lists in place of tuples, as a config file has them.

    Example:
        >>> as_sections({"INPUT.MIN_SIZE_TEST": 320, "INPUT.MIN_SIZE_TRAIN": (288, 320), "SEED": 1})
        {'INPUT': {'MIN_SIZE_TEST': 320, 'MIN_SIZE_TRAIN': [288, 320]}, 'SEED': 1}
    """
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, leaf = key.split(".")
        node = nested
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = list(value) if isinstance(value, tuple) else value
    return nested


def say_once(cfg: CfgNode, logger: logging.Logger, level: int, text: str) -> None:
    """Log a text about a config, unless it was already logged for this config or for the one it was cloned from."""
    logged = cfg.__dict__.setdefault("_retina_said", [])  # clone() copies it
    if text not in logged:
        logged.append(text)
        logger.log(level, "%s", text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant, ignoring case, or None if no known word is similar.

    A dotted key with the same last part counts as similar.

    Example:
        >>> nearest("BASE_LR", ["SOLVER.BASE_LR", "SOLVER.BASE_LR_END"]), nearest("bifnp", ["fpn", "bifpn"])
        ('SOLVER.BASE_LR', 'bifpn')
    """
    by_case = {other.casefold(): other for other in known}
    word = word.casefold()
    by_leaf = [other for other in by_case if other.rsplit(".")[-1] == word.rsplit(".")[-1]]
    near = (
        difflib.get_close_matches(word, by_case, n=1, cutoff=0.75)
        or by_leaf[:1]
        or difflib.get_close_matches(word, by_case, n=1, cutoff=0.5)
    )
    return by_case[near[0]] if near else None
