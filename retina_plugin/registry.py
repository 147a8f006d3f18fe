"""The registry used for every slot of the plugin that Detectron2 has no registry for."""

import difflib
import inspect
from collections.abc import Mapping, Sequence
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


class Option(NamedTuple):
    """An option of a variant, declared where the variant is registered: a config key, and an argument of its constructor.

    Args:
        name: of the argument, such as "gamma". Of the variant "asymmetric" of the classification loss it is the key
            MODEL.CLS_LOSS.ASYMMETRIC_GAMMA.
        rule: which values it may have: ``Number``, ``Choice``, ``Flag``, ``Text``, ``Several`` of ``retina_plugin.config.values``.
        default: one of them.
        meaning: what it does, a sentence.
        unit: of the number, if it has one.
    """

    name: str
    rule: Any
    default: Any
    meaning: str
    unit: str = ""


OPTIONS: dict[str, Option] = {}
"""What variants have declared, by config key."""


class SlotRegistry(Registry):
    """Variants of one part of the detector, chosen by name from the config.

    Differs from detectron2's ``Registry`` in four ways: a variant is registered under a name of
    its own (``@LOSSES.register("focal")``) and may declare options, registering the same object again after a module
    reload is allowed, and an unknown name is answered with the config key to set and the known
    names.

    Args:
        name: what the slot holds, for messages ("classification loss").
        key: the config key that chooses the variant ("MODEL.RETINANET.CLS_LOSS").
        section: of the config, for the keys of options ("MODEL.CLS_LOSS"); "": variants have no options.
    """

    def __init__(self, name: str, key: str, *, section: str = "") -> None:
        super().__init__(name)
        self.key, self.section = key, section
        self._options: dict[str, dict[str, str]] = {}
        SLOTS[key] = self

    def register(self, name: str, *, options: Sequence[Option] = ()) -> Callable[[Any], Any]:
        """Return a decorator that registers a class or function under ``name``.

        Args:
            name: for the config.
            options: that are this variant's alone; each is a key below ``section`` and an argument of the constructor.

        Raises:
            ValueError: another object already has this name, or an option cannot be one.
        """

        def decorate(obj: Any) -> Any:
            old = self._obj_map.get(name)
            if old is not None and (old.__module__, old.__qualname__) != (obj.__module__, obj.__qualname__):
                raise ValueError(f"{self._name} {name!r} is already registered by {old.__module__}.{old.__qualname__}")
            keys = {option.name: self._key_of(name, obj, option) for option in options}
            OPTIONS.update({keys[option.name]: option for option in options})
            self._obj_map[name], self._options[name] = obj, keys
            return obj

        return decorate

    def _key_of(self, name: str, variant: Any, option: Option) -> str:
        """The config key of an option.

        Raises:
            ValueError: it cannot be one.
        """
        what = f"option {option.name!r} of the {self._name} {name!r}"
        if not self.section:
            raise ValueError(f"{what}: a {self._name} has no options in the config")
        if not option.name.isidentifier() or not name.isidentifier():
            raise ValueError(f"{what}: both become part of a config key, so they must be of letters, digits and '_'")
        if not option.rule.allows(option.default):
            raise ValueError(f"{what}: its default is {option.default!r}; it must be {option.rule.says()}")
        parameters = inspect.signature(variant).parameters
        if option.name not in parameters and not _takes_all(parameters):
            raise ValueError(
                f"{what}: {variant.__module__}.{variant.__qualname__} has no argument {option.name}; it has {', '.join(parameters) or 'none'}"
            )
        return f"{self.section}.{name}_{option.name}".upper()

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
            f"{self.key} is {name!r}, but there is no such {self._name}; known: {', '.join(sorted(self._obj_map))}.{hint} {IMPORT_IT}"
        )

    def option_keys(self, name: str) -> dict[str, str]:
        """The options that a variant has declared: argument of its constructor to config key."""
        return self._options.get(name, {})

    def options_of(self, name: str, cfg: Any) -> dict[str, Any]:
        """What a config says of the options that a variant has declared: argument of its constructor to value."""
        return {argument: _value(cfg, key) for argument, key in self.option_keys(name).items()}

    def build(self, name: str, *, cfg: Any = None, **offered: Any) -> Any:
        """Construct the variant called ``name``.

        Args:
            name: of the variant.
            cfg: with the options that it has declared, and itself for a constructor that names ``cfg``; None: options keep the
                constructor's defaults.
            offered: what every variant of the slot may have; it gets what its constructor names, or all if it takes ``**kwargs``.

        Raises:
            ValueError: there is no such variant, it asks for what is neither offered nor declared, or it refuses its options.
        """
        variant = self.get(name)
        if cfg is not None:
            offered = {**offered, **self.options_of(name, cfg)}
        parameters = inspect.signature(variant).parameters
        if cfg is not None and "cfg" in parameters:
            offered["cfg"] = cfg
        wanted = [
            p.name
            for p in parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if missing := [argument for argument in wanted if argument not in offered]:
            raise ValueError(
                f"{self._name} {name!r} ({variant.__module__}.{variant.__qualname__}) asks for {', '.join(missing)}; it can have {', '.join(sorted(offered))}, "
                f"and what it declares: register({name!r}, options=[Option({missing[0]!r}, ...)])"
            )
        return variant(
            **(
                offered
                if _takes_all(parameters)
                else {argument: value for argument, value in offered.items() if argument in parameters}
            )
        )


IMPORT_IT = (
    "One of your own is known once the module that registers it is imported: IMPORTS in the config, or --import MODULE."
)
"""What to do about an unknown name."""


def _takes_all(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _value(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
