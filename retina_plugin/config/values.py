"""Rules for the value of one config key: the allowed values, a description of them, and examples that a test tries."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fvcore.common.registry import Registry

from detectron2 import modeling as detectron2_modeling

from retina_plugin.registry import SLOTS


class Rule(Protocol):
    """What the value of a config key may be."""

    def allows(self, value: object) -> bool:
        """Return whether a config may have the value."""

    def says(self) -> str:
        """Return a description of the allowed values that continues "it must be ..."."""

    def examples(self) -> list:
        """Return the documented values, or both ends of a range where it has them."""


def _one_of(choices: list[str]) -> str:
    """Return a list of choices in words, or the only choice."""
    return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]


@dataclass(frozen=True)
class Number:
    """A finite number. An integer is allowed wherever a float is; a float or a bool is not an integer.

    Args:
        kind: ``int`` or ``float``.
        low: Lower end of the range.
        high: Upper end of the range.
        open_low: Whether the lower end itself is excluded.
        open_high: Whether the upper end itself is excluded.
    """

    kind: type = float
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def allows(self, value: object) -> bool:
        """Return whether the value is a number of this kind within the range."""
        kinds = (int,) if self.kind is int else (int, float)
        if type(value) not in kinds:  # isinstance would let a bool pass
            return False
        assert isinstance(value, (int, float))
        if not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def says(self) -> str:
        """Return the kind and the finite ends of the range."""
        noun = "an integer" if self.kind is int else "a finite number"
        ends = []
        if math.isfinite(self.low):
            ends.append(f"{'above' if self.open_low else 'at least'} {self._shown(self.low)}")
        if math.isfinite(self.high):
            ends.append(f"{'below' if self.open_high else 'at most'} {self._shown(self.high)}")
        return f"{noun} {' and '.join(ends)}".strip()

    def _shown(self, end: float) -> str:
        """Return an end of the range as text, with all digits of an integer."""
        return str(int(end)) if self.kind is int else f"{end:g}"

    def examples(self) -> list:
        """Return the finite ends of the range, or a value close to an end that is excluded."""
        step = 1e-3 * (self.high - self.low) if math.isfinite(self.high - self.low) else 1e-3
        ends = [self.low + step * self.open_low, self.high - step * self.open_high]
        return [self.kind(end) for end in ends if math.isfinite(end)]


@dataclass(frozen=True)
class Choice:
    """One of a few values.

    Args:
        values: The allowed values; the type must match, too, so that True is not 1.
    """

    values: tuple

    def allows(self, value: object) -> bool:
        """Return whether the value is one of the choices."""
        return any(type(value) is type(choice) and value == choice for choice in self.values)

    def says(self) -> str:
        """Return the list of choices."""
        return _one_of([repr(value) if value == "" else str(value) for value in self.values])

    def examples(self) -> list:
        """Return all choices."""
        return list(self.values)


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def allows(self, value: object) -> bool:
        """Return whether the value is a bool."""
        return type(value) is bool

    def says(self) -> str:
        """Return the two values."""
        return "True or False"

    def examples(self) -> list:
        """Return both values."""
        return [True, False]


@dataclass(frozen=True)
class Operations:
    """A list of names, or of mappings of one name to its arguments; their reader checks the names."""

    def allows(self, value: object) -> bool:
        """Return whether the value is a list of names and of mappings with one entry."""
        if not isinstance(value, list | tuple):
            return False
        return all(isinstance(x, str) or (isinstance(x, dict) and len(x) == 1) for x in value)

    def says(self) -> str:
        """Return what the list contains."""
        return "a list of names, or of mappings of a name to its arguments"

    def examples(self) -> list:
        """Return an empty list and one of each kind of entry."""
        return [(), ["RandomGrayscale"], [{"ColorJitter": {"hue": 0.1}}]]


@dataclass(frozen=True)
class Text:
    """A string.

    Args:
        what: What the string is, for messages.
        empty: Whether it may be "".
    """

    what: str = "text"
    empty: bool = True

    def allows(self, value: object) -> bool:
        """Return whether the value is a string without null bytes, and not empty unless that is allowed."""
        return isinstance(value, str) and (self.empty or bool(value)) and "\0" not in value

    def says(self) -> str:
        """Return what the string is."""
        return self.what + ("" if self.empty else " (not empty)")

    def examples(self) -> list:
        """Return nothing: which strings work depends on the key."""
        return []


@dataclass(frozen=True)
class Several:
    """A list or tuple.

    Args:
        rule: Rule of each entry.
        least: Minimum number of entries.
        most: Maximum number of entries.
    """

    rule: Rule
    least: int = 0
    most: float = math.inf

    def allows(self, value: object) -> bool:
        """Return whether the value is a list or tuple of an allowed length whose entries are all allowed."""
        if not isinstance(value, (list, tuple)) or not self.least <= len(value) <= self.most:
            return False
        return all(self.rule.allows(entry) for entry in value)

    def says(self) -> str:
        """Return the allowed length and the rule of the entries."""
        if self.least == self.most:
            count = f" of {self.least}"
        elif math.isfinite(self.most):
            count = f" of {self.least} to {self.most}"
        elif self.least:
            count = f" of {self.least} or more"
        else:
            count = ""
        return f"a list{count}, each {self.rule.says()}"

    def examples(self) -> list:
        """Return lists of equal entries, one per example of the entries' rule."""
        return [[entry] * max(1, self.least) for entry in self.rule.examples()]


@dataclass(frozen=True)
class OrNone:
    """None, or what a different rule allows.

    Args:
        rule: The different rule.
        meaning: What None means.
    """

    rule: Rule
    meaning: str

    def allows(self, value: object) -> bool:
        """Return whether the value is None or the rule allows it."""
        return value is None or self.rule.allows(value)

    def says(self) -> str:
        """Return the meaning of None and the other values."""
        return f"None ({self.meaning}) or {self.rule.says()}"

    def examples(self) -> list:
        """Return None and the examples of the rule."""
        return [None, *self.rule.examples()]


@dataclass(frozen=True)
class Slot:
    """A name in the registry that a config key selects from, including everything registered so far.

    Args:
        key: The config key, which identifies a slot of the plugin.
        registry: Name of a registry in ``detectron2.modeling``, for one of Detectron2's slots; "": the plugin's.
    """

    key: str
    registry: str = ""

    def _registry(self) -> Registry:
        """Return the registry."""
        return getattr(detectron2_modeling, self.registry) if self.registry else SLOTS[self.key]

    def allows(self, value: object) -> bool:
        """Return whether a variant of this name is registered."""
        return isinstance(value, str) and value in self._registry()

    def says(self) -> str:
        """Return the list of registered names."""
        names = self.examples()
        return _one_of(names) if names else "a registered name (none is registered)"

    def examples(self) -> list:
        """Return the registered names in alphabetical order."""
        return sorted(name for name, _ in self._registry())


def plain(value: object, like: object) -> object:
    """Convert a value to the types of ``like``: integers to floats, and lists to tuples or tuples to lists.

    Args:
        value: The value of a config key.
        like: The key's default. A value that cannot be converted is returned unchanged.

    Example:
        >>> plain(2, 0.5), plain([1, 2], ()), plain([1, 2.5], [0.5]), plain("2", 0.5)
        (2.0, (1, 2), [1.0, 2.5], '2')
    """
    if isinstance(like, float) and type(value) is int:
        return float(value)
    if isinstance(value, Sequence) and not isinstance(value, str) and isinstance(like, (list, tuple)):
        return type(like)(plain(entry, like[0]) if like else entry for entry in value)
    return value
