"""How a config file becomes a config that can be built from: read, merge, check, resolve, freeze."""

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

IMPORT_KEY = "One of your own is known once the module that declares it is imported: IMPORTS, or --import MODULE"


def load_config(file: str | os.PathLike, opts: Sequence = ()) -> CfgNode:
    """Read a config file of the plugin, ready to build from; the one way used by every tool.

    Reads YAML as data (a tag is an error), refuses unknown keys with the nearest known one and values that are not allowed, takes
    the class count from the dataset unless it is set, scales the schedule to the batch size (see SOLVER.REFERENCE_BATCH_SIZE) or to
    epochs (SOLVER.EPOCHS), and refuses what contradicts itself. The modules of IMPORTS are imported.

    Args:
        file: path of a YAML file; its ``_BASE_`` is followed.
        opts: alternating keys and values that override the file, as on the command line.

    Returns:
        A frozen config.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no config, has unknown keys or values that are not allowed or contradict each other; all are listed, with
            file and line.
        ImportError: a module of IMPORTS cannot be imported.
    """
    return _prepare(read_settings(file), opts, os.fspath(file), imports=True)


def config_from_text(
    text: str, opts: Sequence = (), *, source: str = "the config of the checkpoint", imports: bool = False
) -> CfgNode:
    """:func:`load_config` for the YAML that :func:`dump_config` wrote, as a checkpoint carries it.

    Keys that are not known here, as a newer Detectron2 or plugin may have written, are left out with a warning.

    Args:
        text: the YAML.
        opts: as for :func:`load_config`.
        source: of the text, for messages.
        imports: whether the modules of its IMPORTS are imported; a checkpoint may come from a stranger, and a module is code.

    Raises:
        ValueError: as :func:`load_config`; if it needs a module of IMPORTS that is not imported, the message names it.
        ImportError: such a module cannot be imported.
    """
    settings = settings_of(text, source)
    modules = settings["IMPORTS"].value if "IMPORTS" in settings else ()
    if imports:
        import_modules(modules, asked_by=f"IMPORTS of {source}")
    absent = [name for name in modules if name not in sys.modules] if isinstance(modules, list | tuple) else []
    if absent:
        logger.warning(
            "%s was made with %s, which %s not imported here",
            source,
            ", ".join(map(str, absent)),
            "is" if len(absent) == 1 else "are",
        )
    known = set(all_keys(defaults_of_all()))
    if unknown := sorted(set(settings) - known):
        logger.warning("%s has keys that are not known here and are not read: %s", source, ", ".join(unknown))
    try:
        return _prepare(
            {key: setting for key, setting in settings.items() if key in known}, opts, source, imports=False
        )
    except ValueError as error:
        if not absent:
            raise
        raise ValueError(
            f"{error}\n{source} needs {', '.join(map(str, absent))}: import it first, or say that it may be imported (imports=True, or --import {absent[0]})"
        ) from error


def dump_config(cfg: CfgNode) -> str:
    """The whole config as YAML that loads alone, with the key that names the plugin first."""
    data = parse_yaml(cfg.dump(), source="the config")
    first = FIRST[0].name
    return yaml.dump({first: data.pop(first), **data}, Dumper=_PlainDumper, sort_keys=False)


def ready_config(cfg: CfgNode, *, training: bool = False) -> CfgNode:
    """Return the config as :func:`load_config` would have made it: values checked, resolved, contradictions refused, frozen.

    For a config made Detectron2's way (``get_cfg(); add_retina_config(cfg); cfg.merge_from_file(...)``) or changed after loading. One
    that is ready comes back with equal values.

    Args:
        cfg: left as it is.
        training: whether it is about to be trained, so that its datasets have to be registered and readable.

    Raises:
        ValueError: its values are not allowed or contradict each other; all are listed.
    """
    cfg, defaults = cfg.clone(), defaults_of_all()
    cfg.defrost()
    for key in known_records(cfg):
        set_key(cfg, key, plain(get_key(cfg, key), get_key(defaults, key)))
    return _finish(cfg, {}, training=training)


class _PlainDumper(yaml.SafeDumper):
    """Writes a value that occurs twice twice, where YAML would put a reference that people stumble over."""

    def ignore_aliases(self, data: object) -> bool:
        """Every value is written out."""
        return True


def _prepare(settings: dict[str, Setting], opts: Sequence, source: str, *, imports: bool) -> CfgNode:
    if len(opts) % 2:
        raise ValueError(f"config options come in pairs KEY VALUE; got {len(opts)} words: {' '.join(map(str, opts))}")
    given = {str(key): Setting(value, "") for key, value in zip(opts[0::2], opts[1::2], strict=True)}
    if "SOLVER.AMP.ENABLED" in given and str(given["SOLVER.AMP.ENABLED"].value).lower() == "false":
        if given.get("SOLVER.AMP.PRECISION", Setting("auto", "")).value in ("auto", "bf16", "fp16"):
            given["SOLVER.AMP.PRECISION"] = Setting("fp32", "")
    settings = {**settings, **given}
    if imports:
        import_modules(modules_of(settings), asked_by=f"IMPORTS of {source}")
    cfg = defaults_of_all()
    if problems := _unknown(cfg, settings):
        raise ValueError("\n  ".join([f"{source}:", *problems]))
    settings = {
        key: setting for key, setting in settings.items() if key in all_keys(cfg)
    }  # a section that is left empty sets nothing
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


def modules_of(settings: dict[str, Setting]) -> tuple[str, ...]:
    """The modules that settings name under IMPORTS.

    Raises:
        ValueError: IMPORTS is no list.
    """
    setting = settings.get("IMPORTS", Setting((), ""))
    value = _literal(setting.value) if isinstance(setting.value, str) else setting.value
    value = () if value is None else value
    if not isinstance(value, list | tuple):
        raise ValueError(
            f"IMPORTS is {value!r}; it must be a list of modules, such as [my_package.losses]{_at(setting)}"
        )
    return tuple(value)


def _finish(cfg: CfgNode, where: dict[str, str], *, training: bool = False) -> CfgNode:
    if found := value_problems(cfg):
        refuse([*found, *problems_beside(cfg, found)], where)
    resolve_config(cfg)
    refuse(config_problems(cfg, training=training), where)
    warn_of_unread(cfg)
    cfg.freeze()
    return cfg


def _at(setting: Setting) -> str:
    return f" ({setting.where})" if setting.where else ""


def _unknown(cfg: CfgNode, settings: dict[str, Setting]) -> list[str]:
    """Name every key that ``cfg`` does not know, with the nearest it does, and every section that is given a value."""
    known = all_keys(cfg)
    sections = {key.rsplit(".", n)[0] for key in known for n in range(1, key.count(".") + 1)}
    lines = []
    for key, setting in settings.items():
        if key in sections and setting.value is not None:
            lines.append(
                f"{key} is a section with keys below it, such as {next(k for k in known if k.startswith(key + '.'))}, and has no value of its own{_at(setting)}"
            )
        elif key not in known and key not in sections:
            near = nearest(key, known)
            lines.append(
                f"unknown key {key}"
                + (f"; did you mean {near}?{_at(setting)}" if near else f"{_at(setting)}.")
                + f" {IMPORT_KEY}"
            )
    return lines


def _read_value(key: str, setting: Setting, default: object) -> object:
    """The value of a setting: words are read as Python, as Detectron2 does, where the key is no text."""
    value = setting.value
    if isinstance(value, str) and not isinstance(default, str):
        value = (
            {"true": True, "false": False}.get(value.lower(), value) if isinstance(default, bool) else _literal(value)
        )
    elif isinstance(value, str) and value[:1] in ("'", '"'):
        value = _literal(value)
    record = known_keys().get(key) or DETECTRON2_KEYS.get(key)
    like = record.default if record and record.is_ours else default
    return plain(value, like)


def _literal(word: str) -> object:
    """A word as Python reads it: "(1, 2)", "1e-3"; the word itself if it is none."""
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return word


def _wrong_type(key: str, value: object, default: object) -> str | None:
    """For a value that no config can hold, or, of a key without a record, whose rule would say more, of another type than Detectron2's default."""
    if type(value) not in (tuple, list, str, int, float, bool, type(None)):
        return f"{key} is a {type(value).__name__}, {str(value)!r}; put it in quotes if it is a text"
    if key in known_keys() or key in DETECTRON2_KEYS or default is None or type(value) is type(default):
        return None
    return f"{key} is {value!r}; it must be of type {type(default).__name__}, as Detectron2's default {default!r}"
