"""The registry used for every slot of the plugin that Detectron2 has no registry for."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from fvcore.common.registry import Registry

SLOTS: dict[str, "SlotRegistry"] = {}
"""The registries by the config key that chooses from them; ``import retina_plugin`` fills it."""


class Condition(NamedTuple):
    """When a variant reads a key: ``holds(cfg)``; ``otherwise`` says why the key has no effect if that is false."""

    holds: Callable[[Any], bool]
    otherwise: str


def reads(*keys: str, when: Mapping[str, Condition] | None = None) -> Callable[[Any], Any]:
    """Return a decorator that declares which config keys a variant reads, beside those that every variant of its slot does.

    The declaration is the attribute ``config_keys``, from key to ``Condition`` or None. A variant without one
    is taken to read everything that the others of its slot do. ``modeling.options.unused_options`` compares.

    Args:
        keys: dotted keys that are always read.
        when: keys that are read on a condition only.
    """

    def decorate(obj: Any) -> Any:
        obj.config_keys = {**dict.fromkeys(keys), **(when or {})}
        return obj

    return decorate


class SlotRegistry(Registry):
    """Variants of one part of the detector, chosen by name from the config.

    Differs from detectron2's ``Registry`` in three ways: a variant is registered under a name of
    its own (``@LOSSES.register("focal")``), registering the same object again after a module
    reload is allowed, and an unknown name is answered with the config key to set and the known
    names.

    Args:
        name: what the slot holds, for messages ("classification loss").
        key: the config key that chooses the variant ("MODEL.RETINANET.CLS_LOSS").
    """

    def __init__(self, name: str, key: str) -> None:
        super().__init__(name)
        self.key = key
        SLOTS[key] = self

    def register(self, name: str) -> Callable[[Any], Any]:
        """Return a decorator that registers a class or function under ``name``.

        Raises:
            ValueError: another object already has this name.
        """

        def decorate(obj: Any) -> Any:
            old = self._obj_map.get(name)
            if old is not None and (old.__module__, old.__qualname__) != (obj.__module__, obj.__qualname__):
                raise ValueError(f"{self._name} {name!r} is already registered by {old.__module__}.{old.__qualname__}")
            self._obj_map[name] = obj
            return obj

        return decorate

    def get(self, name: str) -> Any:
        """Return the variant called ``name``.

        Raises:
            ValueError: there is none; the message lists those that exist and the nearest one.
        """
        if name in self._obj_map:
            return self._obj_map[name]
        near = difflib.get_close_matches(str(name), self._obj_map, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{self.key} is {name!r}, but there is no such {self._name}; known: {', '.join(sorted(self._obj_map))}.{hint}"
        )

    def build(self, name: str, **offered: Any) -> Any:
        """Construct the variant called ``name``, with those of the offered options that its constructor names.

        Raises:
            ValueError: there is no such variant, or it refuses its options.
        """
        variant = self.get(name)
        named = inspect.signature(variant).parameters
        return variant(**{option: value for option, value in offered.items() if option in named})
