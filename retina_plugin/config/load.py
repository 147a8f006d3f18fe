"""From a config file to a config that can be built: read, merge, check, resolve, freeze."""

import ast
import logging
import os
import sys
from collections.abc import Sequence

import yaml

from detectron2.config import CfgNode

from retina_plugin.config.check import (
    config_problems,
    defaults_of_all,
    known_records,
    problems_beside,
    refuse,
    value_problems,
    warn_of_unread,
)
from retina_plugin.config.detectron2_keys import DETECTRON2_KEYS
from retina_plugin.config.files import Setting, read_settings, settings_of
from retina_plugin.config.imports import import_modules
from retina_plugin.config.key import all_keys, get_key, nearest, set_key
from retina_plugin.config.keys import FIRST, known_keys
from retina_plugin.config.resolve import resolve_config
from retina_plugin.config.values import plain
from retina_plugin.text import parse_yaml

logger = logging.getLogger(__name__)

IMPORT_KEY = "Your own keys are known once the module that declares them is imported: IMPORTS, or --import MODULE"


def load_config(file: str | os.PathLike, opts: Sequence = ()) -> CfgNode:
    """Read a config file of the plugin into a config that is ready to build. Every tool uses this function.

    It reads YAML as data (a tag is an error), refuses unknown keys (with the nearest known one) and values that are not
    allowed, imports the modules of IMPORTS, takes the class count from the dataset unless it is set, scales the
    schedule to the batch size (SOLVER.REFERENCE_BATCH_SIZE) or to epochs (SOLVER.EPOCHS), and refuses contradictions.

    Args:
        file: Path of a YAML file; its ``_BASE_`` is followed.
        opts: Alternating keys and values that override the file, as on the command line.

    Returns:
        A frozen config.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not a config, or has unknown keys or values that are not allowed or contradict each
            other; all problems are listed, with file and line.
        ImportError: If a module of IMPORTS cannot be imported.
    """
    return _prepare(read_settings(file), opts, os.fspath(file), imports=True)


def config_from_text(
    text: str, opts: Sequence = (), *, source: str = "the config of the checkpoint", imports: bool = False
) -> CfgNode:
    """Read a config from the YAML that :func:`dump_config` writes into checkpoints; see :func:`load_config`.

    Unknown keys, which a newer version of Detectron2 or of the plugin may have written, are ignored with a warning.

    Args:
        text: The YAML.
        opts: See :func:`load_config`.
        source: Where the text comes from, for messages.
        imports: Whether to import the modules of its IMPORTS. A checkpoint may be untrusted, and a module is code.

    Raises:
        ValueError: See :func:`load_config`; if the config needs a module of IMPORTS that is not imported, the message
            names the module.
        ImportError: If such a module cannot be imported.
    """
    settings = settings_of(text, source)
    modules = modules_of(settings)
    if imports:
        import_modules(modules, asked_by=f"IMPORTS of {source}")
    absent = [str(name) for name in modules if str(name) not in sys.modules]
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        logger.warning("%s uses %s, which %s not imported here", source, ", ".join(absent), verb)
    known = set(all_keys(defaults_of_all()))
    if unknown := sorted(set(settings) - known):
        logger.warning("%s has unknown keys, which are ignored: %s", source, ", ".join(unknown))
    settings = {key: setting for key, setting in settings.items() if key in known}
    try:
        return _prepare(settings, opts, source, imports=False)
    except ValueError as error:
        if not absent:
            raise
        raise ValueError(
            f"{error}\n{source} needs {', '.join(absent)}: import it first, or allow the import "
            f"(imports=True, or --import {absent[0]})"
        ) from error


def dump_config(cfg: CfgNode) -> str:
    """Return the whole config as YAML that loads without a base, starting with the key that names the plugin."""
    data = parse_yaml(cfg.dump(), source="the config")
    assert isinstance(data, dict)
    first = FIRST[0].name
    return yaml.dump({first: data.pop(first), **data}, Dumper=_PlainDumper, sort_keys=False)


def ready_config(cfg: CfgNode, *, training: bool = False) -> CfgNode:
    """Return the config as :func:`load_config` would have made it: checked, resolved, without contradictions, frozen.

    Use it for a config that was made Detectron2's way (``get_cfg(); add_retina_config(cfg); cfg.merge_from_file(...)``)
    or changed after loading. A config that is ready is returned with equal values.

    Args:
        cfg: The config; it is not modified.
        training: Whether it is about to be trained, so that its datasets must be registered and readable.

    Raises:
        ValueError: If values are not allowed or contradict each other; all problems are listed.
    """
    cfg, defaults = cfg.clone(), defaults_of_all()
    cfg.defrost()
    for key in known_records(cfg):
        set_key(cfg, key, plain(get_key(cfg, key), get_key(defaults, key)))
    return _finish(cfg, {}, training=training)


class _PlainDumper(yaml.SafeDumper):
    """YAML dumper that writes repeated values in full instead of as references, which are hard to read."""

    def ignore_aliases(self, data: object) -> bool:
        """Return True: every value is written in full."""
        return True


def _prepare(settings: dict[str, Setting], opts: Sequence, source: str, *, imports: bool) -> CfgNode:
    """Return a checked, resolved and frozen config with the given settings.

    Args:
        settings: The values of a file or text.
        opts: Alternating keys and values that override them.
        source: The file or text, for messages.
        imports: Whether to import the modules of IMPORTS.
    """
    settings = {**settings, **_given(opts)}
    if imports:
        import_modules(modules_of(settings), asked_by=f"IMPORTS of {source}")
    cfg = defaults_of_all()
    if problems := _unknown(cfg, settings):
        raise ValueError("\n  ".join([f"{source}:", *problems]))
    known = set(all_keys(cfg))
    settings = {key: setting for key, setting in settings.items() if key in known}  # drops sections that are empty
    for key, setting in settings.items():
        default = get_key(cfg, key)
        value = _read_value(key, setting, default)
        if problem := _wrong_type(key, value, default):
            problems.append(problem + _at(setting))
        else:
            set_key(cfg, key, value)
    if problems:
        raise ValueError("\n  ".join([f"{source}:", *problems]))
    return _finish(cfg, {key: setting.where for key, setting in settings.items()})


def _given(opts: Sequence) -> dict[str, Setting]:
    """Return the settings of the command line.

    Switching mixed precision off there also overrides a precision that a file has set.

    Args:
        opts: Alternating keys and values.
    """
    if len(opts) % 2:
        raise ValueError(f"config options come in pairs KEY VALUE; got {len(opts)} words: {' '.join(map(str, opts))}")
    given = {str(key): Setting(value, "") for key, value in zip(opts[0::2], opts[1::2], strict=True)}
    amp = given.get("SOLVER.AMP.ENABLED", Setting(True, ""))
    precision = given.get("SOLVER.AMP.PRECISION", Setting("auto", ""))
    if str(amp.value).lower() == "false" and precision.value in ("auto", "bf16", "fp16"):
        given["SOLVER.AMP.PRECISION"] = Setting("fp32", "")
    return given


def modules_of(settings: dict[str, Setting]) -> tuple[str, ...]:
    """Return the modules that settings name under IMPORTS.

    Raises:
        ValueError: If IMPORTS is not a list.
    """
    setting = settings.get("IMPORTS", Setting((), ""))
    value = literal(setting.value) if isinstance(setting.value, str) else setting.value
    value = () if value is None else value
    if not isinstance(value, list | tuple):
        expected = "a list of modules, such as [my_package.losses]"
        raise ValueError(f"IMPORTS is {value!r}; it must be {expected}{_at(setting)}")
    return tuple(value)


def _finish(cfg: CfgNode, where: dict[str, str], *, training: bool = False) -> CfgNode:
    """Check, resolve and freeze a config in place, and return it.

    Args:
        cfg: The config.
        where: File and line that set a key, for messages.
        training: See :func:`ready_config`.
    """
    if found := value_problems(cfg):
        refuse([*found, *problems_beside(cfg, found)], where)
    resolve_config(cfg)
    refuse(config_problems(cfg, training=training), where)
    warn_of_unread(cfg)
    cfg.freeze()
    return cfg


def _at(setting: Setting) -> str:
    """Return the place of a setting in parentheses, or "" for the command line."""
    return f" ({setting.where})" if setting.where else ""


def _unknown(cfg: CfgNode, settings: dict[str, Setting]) -> list[str]:
    """Return a line per key that ``cfg`` does not have, with the nearest one it has, and per section given a value."""
    known = all_keys(cfg)
    sections = {key.rsplit(".", n)[0] for key in known for n in range(1, key.count(".") + 1)}
    lines = []
    for key, setting in settings.items():
        if key in sections and setting.value is not None:
            example = next(name for name in known if name.startswith(f"{key}."))
            lines.append(f"{key} is a section of keys, such as {example}, and cannot have a value{_at(setting)}")
        elif key not in known and key not in sections:
            near = nearest(key, known)
            suggestion = f"; did you mean {near}?{_at(setting)}" if near else f"{_at(setting)}."
            lines.append(f"unknown key {key}{suggestion} {IMPORT_KEY}")
    return lines


def _read_value(key: str, setting: Setting, default: object) -> object:
    """Return the value of a setting, converted to the type of the key.

    As in Detectron2, strings are parsed as Python literals unless the key itself is a string.
    """
    value = setting.value
    if isinstance(value, str):
        is_quoted = value[:1] in ("'", '"')
        if isinstance(default, bool):
            value = {"true": True, "false": False}.get(value.lower(), value)
        elif is_quoted or not isinstance(default, str):
            value = literal(value)
    record = known_keys().get(key) or DETECTRON2_KEYS.get(key)
    like = record.default if record and record.is_ours else default
    return plain(value, like)


def literal(word: str) -> object:
    """Parse a Python literal such as "(1, 2)" or "1e-3"; return the word itself if it is not a literal."""
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return word


def _wrong_type(key: str, value: object, default: object) -> str | None:
    """Return what is wrong with the type of a value, or None.

    A value may have a type that no config can hold. The type of a key without a record must be that of Detectron2's
    default; a key with a record is checked by its rule, whose message is more exact.
    """
    if type(value) not in (tuple, list, str, int, float, bool, type(None)):
        return f"{key} is a {type(value).__name__}, {str(value)!r}; put it in quotes if it is a string"
    if key in known_keys() or key in DETECTRON2_KEYS or default is None or type(value) is type(default):
        return None
    return f"{key} is {value!r}; it must be of type {type(default).__name__}, as Detectron2's default {default!r}"
