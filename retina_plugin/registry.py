"""The registry behind every slot of the plugin that Detectron2 has no registry for."""

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

SLOTS: dict[str, "SlotRegistry"] = {}
"""The registries by the config key that selects from them; filled by ``import retina_plugin``."""

IMPORT_IT = (
    "Your own variants are known once the module that registers them is imported: IMPORTS in the config, "
    "or --import MODULE."
)
"""What to do about an unknown name."""


class Condition(NamedTuple):
    """When a variant reads a key.

    Args:
        holds: Function of the config: whether the key is read.
        otherwise: Why the key has no effect where ``holds`` returns False.
    """

    holds: Callable[[Any], bool]
    otherwise: str


def reads(*keys: str, when: Mapping[str, Condition] | None = None) -> Callable[[Any], Any]:
    """Return a decorator that declares which config keys a variant reads besides those of every variant of its slot.

    The declaration is the attribute ``config_keys``, a dict from key to ``Condition`` or None. A variant without a
    declaration is assumed to read everything that the other variants of its slot read.
    ``modeling.options.unused_options`` compares them.

    Args:
        keys: Dotted keys that are always read.
        when: Keys that are read under a condition only.
    """

    def decorate(obj: Any) -> Any:
        """Set ``config_keys`` of a class or function and return it."""
        obj.config_keys = {**dict.fromkeys(keys), **(when or {})}
        return obj

    return decorate


class Option(NamedTuple):
    """An option of a variant, declared where the variant is registered: a config key and a constructor argument.

    Args:
        name: Name of the argument, such as "gamma". For the variant "asymmetric" of the classification loss its key is
            MODEL.CLS_LOSS.ASYMMETRIC_GAMMA.
        rule: Allowed values: ``Number``, ``Choice``, ``Flag``, ``Text`` or ``Several`` of
            ``retina_plugin.config.values``.
        default: One of the allowed values.
        meaning: What the option does, one sentence.
        unit: Unit of the number, if it has one.
    """

    name: str
    rule: Any
    default: Any
    meaning: str
    unit: str = ""


OPTIONS: dict[str, Option] = {}
"""The options that variants have declared, by config key."""


class SlotRegistry:
    """Variants of one part of the detector, selected by name in the config.

    Differs from Detectron2's ``Registry`` in four ways: a variant has a name of its own
    (``@LOSSES.register("focal")``) and may declare options; registering the same object again after a module reload is
    allowed; and the error for an unknown name states the config key, the known names and the nearest one.

    Args:
        name: What the slot holds, for messages ("classification loss").
        key: Config key that selects the variant ("MODEL.RETINANET.CLS_LOSS").
        section: Section of the config for the keys of options ("MODEL.CLS_LOSS"); "": variants cannot have options.
    """

    def __init__(self, name: str, key: str, *, section: str = "") -> None:
        self._name, self._obj_map = name, dict[str, Any]()
        self.key, self.section = key, section
        self._options: dict[str, dict[str, str]] = {}
        SLOTS[key] = self

    def register(self, name: str, *, options: Sequence[Option] = ()) -> Callable[[Any], Any]:
        """Return a decorator that registers a class or function under ``name``.

        Args:
            name: Name of the variant in the config.
            options: Options of this variant only; each is a key in ``section`` and an argument of the constructor.

        Raises:
            ValueError: If a different object already has this name, or an option is not valid.
        """

        def decorate(obj: Any) -> Any:
            """Register a class or function and return it."""
            old = self._obj_map.get(name)
            if old is not None and (old.__module__, old.__qualname__) != (obj.__module__, obj.__qualname__):
                raise ValueError(f"{self._name} {name!r} is already registered by {old.__module__}.{old.__qualname__}")
            keys = {option.name: self._key_of(name, obj, option) for option in options}
            OPTIONS.update({keys[option.name]: option for option in options})
            self._obj_map[name], self._options[name] = obj, keys
            return obj

        return decorate

    def __contains__(self, name: str) -> bool:
        return name in self._obj_map

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._obj_map.items())

    def __repr__(self) -> str:
        return f"{self._name} ({self.key}): {', '.join(sorted(self._obj_map))}"

    def _key_of(self, name: str, variant: Any, option: Option) -> str:
        """Return the config key of an option.

        Raises:
            ValueError: If the option is not valid.
        """
        what = f"option {option.name!r} of the {self._name} {name!r}"
        if not self.section:
            raise ValueError(f"{what}: a {self._name} cannot have options in the config")
        if not option.name.isidentifier() or not name.isidentifier():
            raise ValueError(
                f"{what}: both names become part of a config key, so they must consist of letters, digits and '_'"
            )
        if not option.rule.allows(option.default):
            raise ValueError(f"{what}: its default is {option.default!r}; it must be {option.rule.says()}")
        parameters = inspect.signature(variant).parameters
        if option.name not in parameters and not _takes_all(parameters):
            raise ValueError(
                f"{what}: {variant.__module__}.{variant.__qualname__} has no argument {option.name}; "
                f"its arguments: {', '.join(parameters) or 'none'}"
            )
        return f"{self.section}.{name}_{option.name}".upper()

    def get(self, name: str) -> Any:
        """Return the variant called ``name``.

        Raises:
            ValueError: If there is none; the message lists the known names and the nearest one.
        """
        if name in self._obj_map:
            return self._obj_map[name]
        near = difflib.get_close_matches(str(name), self._obj_map, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{self.key} is {name!r}, but there is no such {self._name}; "
            f"known: {', '.join(sorted(self._obj_map))}.{hint} {IMPORT_IT}"
        )

    def option_keys(self, name: str) -> dict[str, str]:
        """Return the options that a variant has declared, as a dict from constructor argument to config key."""
        return self._options.get(name, {})

    def options_of(self, name: str, cfg: Any) -> dict[str, Any]:
        """Return the values of a variant's declared options in a config, by constructor argument."""
        return {argument: _value(cfg, key) for argument, key in self.option_keys(name).items()}

    def build(self, name: str, *, cfg: Any = None, **offered: Any) -> Any:
        """Construct the variant called ``name``.

        Args:
            name: Name of the variant.
            cfg: Config with the variant's declared options; passed on if the constructor has an argument ``cfg``.
                None: options keep the constructor's defaults.
            offered: Arguments available to every variant of the slot. The constructor gets those that it names, or all
                of them if it takes ``**kwargs``.

        Raises:
            ValueError: If there is no such variant, its constructor needs an argument that is neither offered nor
                declared as an option, or it rejects its options.
        """
        variant = self.get(name)
        if cfg is not None:
            offered = {**offered, **self.options_of(name, cfg)}
        parameters = inspect.signature(variant).parameters
        if cfg is not None and "cfg" in parameters:
            offered["cfg"] = cfg
        if missing := [argument for argument in _required(parameters) if argument not in offered]:
            raise ValueError(
                f"{self._name} {name!r} ({variant.__module__}.{variant.__qualname__}) needs {', '.join(missing)}; "
                f"available: {', '.join(sorted(offered))}, and options that it declares with "
                f"register({name!r}, options=[Option({missing[0]!r}, ...)])"
            )
        if not _takes_all(parameters):
            offered = {argument: value for argument, value in offered.items() if argument in parameters}
        return variant(**offered)


def _required(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Return the names of the parameters that a caller has to pass."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters.values() if p.default is p.empty and p.kind not in variadic]


def _takes_all(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _value(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
