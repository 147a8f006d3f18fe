"""One config key as a record, and dotted access to a config."""

import copy
import dataclasses
import difflib
import logging
from collections.abc import Iterable

from detectron2.config import CfgNode

from retina_plugin.config.values import Rule, Several, Slot, Text
from retina_plugin.registry import IMPORT_IT

SET_BY_DETECTRON2 = object()
"""Default of a key that Detectron2 has: its own, which the plugin leaves alone."""


@dataclasses.dataclass(frozen=True)
class Key:
    """What there is to say about a config key.

    Args:
        name: dotted, such as "MODEL.RETINANET.LEVELS".
        rule: which values it may have.
        meaning: what it does, one sentence or two.
        default: of a key that the plugin adds.
        unit: of the number, if it has one.
        shown: values that stand for all that work, where the rule's own examples do not all fit a RetinaNet.
    """

    name: str
    rule: Rule
    meaning: str
    default: object = SET_BY_DETECTRON2
    unit: str = ""
    shown: tuple = ()

    @property
    def examples(self) -> list:
        """Documented values, and both ends of a range where it has them: all of them work."""
        return list(self.shown) or self.rule.examples()

    @property
    def is_ours(self) -> bool:
        """Whether the plugin adds this key to Detectron2's."""
        return self.default is not SET_BY_DETECTRON2

    def problem(self, cfg: CfgNode) -> str | None:
        """What is wrong with the key's value in ``cfg``: key, value and what is allowed; None if nothing is."""
        value = get_key(cfg, self.name)
        if self.rule.allows(value):
            return None
        return f"{self.name} is {value!r}; it must be {self.rule.says()}" + self._hint(value)

    def _hint(self, value: object) -> str:
        if isinstance(self.rule, Several) and isinstance(self.rule.rule, Slot) and isinstance(value, list | tuple):
            return f". {IMPORT_IT}"
        if isinstance(self.rule, Text) and isinstance(value, (bool, int, float)):
            return f". Put it in quotes: '{value}'"
        if isinstance(value, str):
            if self.name.startswith("DATASETS.") and self.rule.allows((value,)):
                return f'. In Python ("x") is a text and ("x",) a tuple: write ({value!r},)'
            near = nearest(value, [str(example) for example in self.rule.examples()])
            return (f". Did you mean {near!r}?" if near else "") + (
                f" {IMPORT_IT}" if isinstance(self.rule, Slot) else ""
            )
        return ""

    def add_to(self, cfg: CfgNode) -> None:
        """Put the default into ``cfg``, with the nodes above it, unless the key is there."""
        *nodes, leaf = self.name.split(".")
        for node in nodes:
            if node not in cfg:
                cfg[node] = CfgNode()
            cfg = cfg[node]
        if leaf not in cfg:
            cfg[leaf] = copy.deepcopy(self.default)


def get_key(cfg: CfgNode, key: str) -> object:
    """Value of a dotted key, such as "MODEL.RETINANET.LEVELS"."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def set_key(cfg: CfgNode, key: str, value: object) -> None:
    """Set a dotted key of a config that is not frozen."""
    *nodes, leaf = key.split(".")
    for node in nodes:
        cfg = cfg[node]
    setattr(cfg, leaf, value)  # refuses a frozen config, which cfg[leaf] does not


def all_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """Dotted names of all values below ``cfg``, and of its empty nodes."""
    keys = []
    for name, value in cfg.items():
        keys += all_keys(value, f"{prefix}{name}.") if isinstance(value, CfgNode) and value else [prefix + name]
    return keys


def say_once(cfg: CfgNode, logger: logging.Logger, level: int, text: str) -> None:
    """Log a text about a config unless that was done already for it, or for the one that it is a copy of."""
    said = cfg.__dict__.setdefault("_retina_said", [])
    if text not in said:
        said.append(text)
        logger.log(level, "%s", text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, whatever its case; None if none is close.

    Of dotted keys one with the same last part counts as close.

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
