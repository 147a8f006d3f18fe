"""Reader of config files: YAML with ``_BASE_``, read as data; every value knows the file and line that set it."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from retina_plugin.config.keys import FIRST
from retina_plugin.paths import shipped
from retina_plugin.text import parse_yaml, read_text, read_yaml

BASE_KEY = "_BASE_"
MOST_BASES = 20
"""Maximum length of a chain of ``_BASE_``, in files."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""YAML loader that is used only to find the lines of keys."""

ARCHITECTURE = re.compile(
    r"^\s+META_ARCHITECTURE:\s*[\"']?(RetinaNet|GeneralizedRCNN|ProposalNetwork|PanopticFPN|SemanticSegmentor|FCOS)\b",
    re.M,
)
"""Architectures that identify one of Detectron2's own configs."""


class Setting(NamedTuple):
    """A value of a config, and the place that set it.

    Args:
        value: The value.
        where: File and line, for messages: "configs/x.yaml, line 3"; "" for the command line.
    """

    value: object
    where: str


def read_settings(file: str | os.PathLike) -> dict[str, Setting]:
    """Read a config file and the files it is based on.

    Args:
        file: Path of a YAML file. Its ``_BASE_``, one path or a list of paths, is relative to the file.

    Returns:
        The values by dotted key. The file overrides its bases.

    Raises:
        FileNotFoundError: If the file or one of its bases does not exist.
        ValueError: If a file cannot be read as a config (with file and line), or is one of Detectron2's own (with the
            plugin's equivalent).
    """
    return _read(os.fspath(file), ())


def shipped_or_own(file: str | os.PathLike) -> Path:
    """Return the path of a config as given, or that of the shipped config of this name if there is no such file.

    Thus ``configs/digits/quickstart.yaml`` works in any folder, also if the package was installed from a wheel.
    """
    path = Path(file).expanduser()
    if not os.path.exists(path) and path.parts[:1] == ("configs",):
        with contextlib.suppress(FileNotFoundError):
            return shipped(str(path))
    return path


def settings_of(text: str, source: str) -> dict[str, Setting]:
    """Return the values of a YAML text without ``_BASE_``, by dotted key.

    Args:
        text: The YAML.
        source: Where the text comes from, for messages.

    Raises:
        ValueError: If the text is not a mapping of keys to values.
    """
    return _flatten(_mapping(parse_yaml(text, source=source), source), source, {})


def _read(file: str, chain: tuple[str, ...]) -> dict[str, Setting]:
    """Read a config file and its bases.

    Args:
        file: Path, as the user or a config gives it.
        chain: Real paths of the files that led here through ``_BASE_``, outermost first.
    """
    asked = f"{chain[-1]}: its {BASE_KEY} " if chain else "config file "
    if "://" in file:
        raise ValueError(
            f"{asked}{file} is a URL, but configs are read from local files only. "
            "Download it, inspect it, and give its path"
        )
    path = shipped_or_own(file)
    real = os.path.realpath(path)
    if real in chain:
        raise ValueError(f"{asked}{file} leads back to itself: {' -> '.join([*chain, real])}")
    if len(chain) >= MOST_BASES:
        raise ValueError(f"{asked}{file} makes the chain of bases longer than {MOST_BASES} files, which is the limit")
    if not chain and (hint := _detectron2s(path)):
        raise ValueError(hint)
    try:
        data = read_yaml(path, what="config file")
        text, _ = read_text(path)
    except FileNotFoundError:
        like = _same_name(Path(chain[0])) if chain else None
        hint = f". If {Path(chain[0]).name} is Detectron2's own config, use the plugin's {like}" if like else ""
        folder = os.path.realpath(path.parent)
        raise FileNotFoundError(f"{asked}{file!r} does not exist (looked in {folder}){hint}") from None
    except ValueError as error:
        raise ValueError(f"{chain[-1]}: its {BASE_KEY}: {error}" if chain else str(error)) from error
    lines = _lines(yaml.compose(text, Loader=LOADER))  # safe: read_yaml has accepted the text
    data = _mapping(data, f"config file {file}")
    settings: dict[str, Setting] = {}
    for base in _bases(data.pop(BASE_KEY, []), f"{file}, line {lines.get((BASE_KEY,), 1)}"):
        expanded = os.path.expanduser(base)
        if not os.path.isabs(expanded) and "://" not in base:
            expanded = os.path.join(path.parent, expanded)
        settings = _overlay(settings, _read(expanded, (*chain, real)))
    return _overlay(settings, _flatten(data, file, lines))


def _bases(value: object, where: str) -> list[str]:
    """Return the paths that ``_BASE_`` names."""
    bases = [value] if isinstance(value, str) else value
    if not isinstance(bases, list) or not all(isinstance(base, str) and base for base in bases):
        raise ValueError(f"{where}: {BASE_KEY} must be the path of a config file, or a list of them; got {value!r}")
    return bases


def _mapping(data: object, source: str) -> dict:
    """Return the data of a document, which has to be a mapping."""
    if not isinstance(data, dict):
        found = "is empty" if data is None else f"holds a {type(data).__name__}"
        raise ValueError(
            f"{source} {found}; keys and values are expected, starting with "
            f"{FIRST[0].name}: {FIRST[0].default} or {BASE_KEY}: ..."
        )
    return data


def _flatten(data: dict, file: str, lines: dict[tuple, int], above: tuple = ()) -> dict[str, Setting]:
    """Return the values by dotted key; a section without keys sets nothing.

    Args:
        data: The content of a file or of a section.
        file: Path of the file, for messages.
        lines: Line of each key, by its path.
        above: Names of the sections that contain ``data``.
    """
    found = {}
    for name, value in data.items():
        path = (*above, str(name))
        where = f"{file}, line {lines[path]}" if path in lines else file
        if not isinstance(name, str):
            raise ValueError(f"{where}: the key {name!r} is not a name; keys are names such as MODEL or SOLVER")
        if "." in name:
            nested = f"{': {'.join(name.split('.'))}: ...{'}' * name.count('.')}"
            raise ValueError(f"{where}: write {name} as nested sections ({nested})")
        if isinstance(value, dict):
            found.update(_flatten(value, file, lines, path))
        else:
            found[".".join(path)] = Setting(value, where)
    return found


def _overlay(below: dict[str, Setting], above: dict[str, Setting]) -> dict[str, Setting]:
    """Merge two dicts of settings; where both have a key, ``above`` counts.

    A section in ``above`` replaces a value in ``below``, and a value a section. A section that is left empty in
    ``above``, or has comments only, changes nothing.
    """
    sections = {".".join(key.split(".")[:n]) for key in above for n in range(1, key.count(".") + 1)}
    values = tuple(f"{key}." for key, setting in above.items() if setting.value is not None)
    kept = {key: x for key, x in below.items() if key not in sections and not key.startswith(values)}
    return {**kept, **above}


def _lines(node: yaml.Node | None, above: tuple = ()) -> dict[tuple, int]:
    """Return the line, from 1, of every key of a document, by the path of the key."""
    found = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*above, key.value)
            found[path] = key.start_mark.line + 1
            found.update(_lines(value, path))
    return found


def _detectron2s(path: Path) -> str | None:
    """Return one line that names the plugin's equivalent if the file is one of Detectron2's own configs, else None."""
    if path.suffix == ".py":
        return (
            f"{path} is a LazyConfig, which is Python code; train_net.py needs YAML (configs/lazy has LazyConfigs for "
            f"your own training loop). {_equivalent(path)}"
        )
    texts = list(_texts(path))
    architecture = next((found[1] for text in texts if (found := ARCHITECTURE.search(text))), None)
    if architecture is None or any(FIRST[0].name in text for text in texts):
        return None
    return f"{path} is a config for Detectron2's {architecture}, not for the plugin. {_equivalent(path)}"


def _texts(path: Path) -> Iterator[str]:
    """Yield the text of a file and of its bases, up to the first missing one; only used to guess what they are."""
    for _ in range(MOST_BASES):
        if not os.path.isfile(path):
            return
        text, _ = read_text(path)
        yield text
        base = re.search(rf"^{BASE_KEY}:\s*[\"']?([^\"'\n#]+)", text, re.M)
        if base is None:
            return
        path = path.parent / os.path.expanduser(base[1].strip())


def _equivalent(path: Path) -> str:
    """Return a sentence that names the plugin's config to use in place of one of Detectron2's."""
    if (file := _same_name(path)) is not None:
        return f"Use the plugin's {file}"
    if "retinanet" in path.stem.lower():
        names = sorted(file.stem for file in shipped("configs/coco").glob("retinanet*.yaml"))
        return f"The plugin has {', '.join(names)} in {shipped('configs/coco')}"
    config = shipped("configs/coco/retinanet_R_50_FPN_1x.yaml")
    return f"The plugin's RetinaNet on COCO is {config}; for your own data use --data FOLDER"


def _same_name(path: Path) -> Path | None:
    """Return the shipped config that has the name of one of Detectron2's files, or None."""
    files = (shipped("configs") / folder / f"{path.stem}.yaml" for folder in ("", "coco"))
    return next((file for file in files if file.is_file() and os.path.realpath(file) != os.path.realpath(path)), None)
