"""Rules for the value of one config key: which values are allowed, in words, and examples that a test tries."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from detectron2 import modeling as detectron2_modeling

from retina_plugin.registry import SLOTS, SlotRegistry


class Rule(Protocol):
    """What a value may be."""

    def allows(self, value: object) -> bool:
        """Whether the value may stand in a config."""

    def says(self) -> str:
        """The allowed values in words that follow "it must be"."""

    def examples(self) -> list:
        """Documented values, and both ends of a range where it has them."""


@dataclass(frozen=True)
class Number:
    """A finite number; an integer is a number of any kind, a float or a bool is no integer.

    Args:
        kind: ``int`` or ``float``.
        low, high: ends of the range.
        open_low, open_high: whether that end is left out.
    """

    kind: type = float
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def allows(self, value: object) -> bool:
        """See :class:`Rule`."""
        if type(value) not in ((int,) if self.kind is int else (int, float)) or not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def says(self) -> str:
        """See :class:`Rule`."""
        noun = "an integer" if self.kind is int else "a finite number"
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}" if math.isfinite(self.low) else ""
        high = f"{'below' if self.open_high else 'at most'} {self.high:g}" if math.isfinite(self.high) else ""
        return " ".join([noun, " and ".join(part for part in (low, high) if part)]).strip()

    def examples(self) -> list:
        """See :class:`Rule`; an end that is left out is stood for by a value close to it."""
        step = 1e-3 * (self.high - self.low) if math.isfinite(self.high - self.low) else 1e-3
        ends = [self.low + step * self.open_low, self.high - step * self.open_high]
        return [self.kind(end) for end in ends if math.isfinite(end)]


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple

    def allows(self, value: object) -> bool:
        """See :class:`Rule`."""
        return any(type(value) is type(choice) and value == choice for choice in self.values)

    def says(self) -> str:
        """See :class:`Rule`."""
        return "one of " + ", ".join(repr(value) if value == "" else str(value) for value in self.values)

    def examples(self) -> list:
        """See :class:`Rule`."""
        return list(self.values)


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def allows(self, value: object) -> bool:
        """See :class:`Rule`."""
        return type(value) is bool

    def says(self) -> str:
        """See :class:`Rule`."""
        return "True or False"

    def examples(self) -> list:
        """See :class:`Rule`."""
        return [True, False]


@dataclass(frozen=True)
class Text:
    """Any text.

    Args:
        what: the text is, for messages.
        empty: whether it may be "".
    """

    what: str = "text"
    empty: bool = True

    def allows(self, value: object) -> bool:
        """See :class:`Rule`."""
        return isinstance(value, str) and (self.empty or bool(value)) and "\0" not in value

    def says(self) -> str:
        """See :class:`Rule`."""
        return self.what + ("" if self.empty else ", not empty")

    def examples(self) -> list:
        """See :class:`Rule`."""
        return []


@dataclass(frozen=True)
class Several:
    """A list or tuple.

    Args:
        rule: of each entry.
        least, most: entries.
    """

    rule: Rule
    least: int = 0
    most: float = math.inf

    def allows(self, value: object) -> bool:
        """See :class:`Rule`."""
        return (
            isinstance(value, (list, tuple))
            and self.least <= len(value) <= self.most
            and all(self.rule.allows(x) for x in value)
        )

    def says(self) -> str:
        """See :class:`Rule`."""
        if self.least == self.most:
            count = f" of {self.least}"
        else:
            count = (
                f" of {f'{self.least} or more' if math.isinf(self.most) else f'{self.least} to {self.most}'}"
                if self.least or self.most < math.inf
                else ""
            )
        return f"a list{count}, each {self.rule.says()}"

    def examples(self) -> list:
        """See :class:`Rule`: lists of equal entries."""
        return [[entry] * max(1, self.least) for entry in self.rule.examples()]


@dataclass(frozen=True)
class OrNone:
    """None, or what another rule allows.

    Args:
        rule: the other.
        meaning: of None.
    """

    rule: Rule
    meaning: str

    def allows(self, value: object) -> bool:
        """See :class:`Rule`."""
        return value is None or self.rule.allows(value)

    def says(self) -> str:
        """See :class:`Rule`."""
        return f"None ({self.meaning}) or {self.rule.says()}"

    def examples(self) -> list:
        """See :class:`Rule`."""
        return [None, *self.rule.examples()]


@dataclass(frozen=True)
class Slot:
    """A name in the registry that a key of the config chooses from, whatever has been registered there by now.

    Args:
        key: of the config, for a slot of the plugin.
        registry: name of one of Detectron2's registries in ``detectron2.modeling``, for one of its slots.
    """

    key: str
    registry: str = ""

    def _found(self) -> SlotRegistry:
        return getattr(detectron2_modeling, self.registry) if self.registry else SLOTS[self.key]

    def allows(self, value: object) -> bool:
        """See :class:`Rule`."""
        return isinstance(value, str) and value in self._found()

    def says(self) -> str:
        """See :class:`Rule`."""
        return "one of " + ", ".join(sorted(name for name, _ in self._found()))

    def examples(self) -> list:
        """See :class:`Rule`."""
        return sorted(name for name, _ in self._found())


def plain(value: object, like: object) -> object:
    """A value with the types of another: integers become floats where ``like`` has floats, lists tuples where it is one.

    Example:
        >>> plain(2, 0.5), plain([1, 2], ()), plain([1, 2.5], [0.5]), plain("2", 0.5)
        (2.0, (1, 2), [1.0, 2.5], '2')
    """
    if isinstance(like, float) and type(value) is int:
        return float(value)
    if isinstance(value, Sequence) and not isinstance(value, str) and isinstance(like, (list, tuple)):
        return type(like)(plain(entry, like[0]) if like else entry for entry in value)
    return value
