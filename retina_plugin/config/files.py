"""Reading config files: YAML with ``_BASE_``, as data, each value with the file and line that set it."""

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
"""Files in one chain of ``_BASE_``."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Only asked for the lines of keys."""

ARCHITECTURE = re.compile(
    r"^\s+META_ARCHITECTURE:\s*[\"']?(RetinaNet|GeneralizedRCNN|ProposalNetwork|PanopticFPN|SemanticSegmentor|FCOS)\b",
    re.M,
)
"""What Detectron2's own configs name."""


class Setting(NamedTuple):
    """A value of a config, and who set it, for messages: "configs/x.yaml, line 3"; "" for the command line."""

    value: object
    where: str


def read_settings(file: str | os.PathLike) -> dict[str, Setting]:
    """Read a config file and what it is based on.

    Args:
        file: path of a YAML file. Its ``_BASE_``, a path or several, is relative to it.

    Returns:
        The values by dotted key; what the file says stands above what its bases say.

    Raises:
        FileNotFoundError: no such file, or no such base.
        ValueError: it cannot be read as a config, with file and line; or it is a config of Detectron2's own, with the plugin's that is meant.
    """
    return _read(os.fspath(file), ())


def shipped_or_own(file: str | os.PathLike) -> Path:
    """Return the path of a config: as given, or, where there is no such file, the one of that name that comes with the package.

    So ``configs/digits/quickstart.yaml`` works from any folder, also where the package was installed from a wheel.
    """
    path = Path(file).expanduser()
    if not path.exists() and path.parts[:1] == ("configs",):
        with contextlib.suppress(FileNotFoundError):
            return shipped(str(path))
    return path


def settings_of(text: str, source: str) -> dict[str, Setting]:
    """The values of a YAML text without ``_BASE_``, by dotted key.

    Raises:
        ValueError: it is no mapping of keys to values.
    """
    return _flatten(_mapping(parse_yaml(text, source=source), source), source, {})


def _read(file: str, chain: tuple[str, ...]) -> dict[str, Setting]:
    asked = f"{chain[-1]}: its {BASE_KEY} " if chain else "config file "
    if "://" in file:
        raise ValueError(
            f"{asked}{file} is an address: configs are read from this machine only. Download it, look at it, and give its path"
        )
    path = shipped_or_own(file)
    real = os.path.realpath(path)
    if real in chain:
        raise ValueError(f"{asked}{file} leads back to where it began: {' -> '.join([*chain, real])}")
    if len(chain) >= MOST_BASES:
        raise ValueError(
            f"{asked}{file} is the {len(chain)}th in a row; at most {MOST_BASES} files can be based on one another"
        )
    if not chain and (hint := _detectron2s(path)):
        raise ValueError(hint)
    try:
        data = read_yaml(path, what="config file")
        text, _ = read_text(path)
    except FileNotFoundError:
        like = _same_name(Path(chain[0])) if chain else None
        hint = f". If {Path(chain[0]).name} is Detectron2's own, the plugin's is {like}" if like else ""
        raise FileNotFoundError(
            f"{asked}{file!r} does not exist (looked in {os.path.realpath(path.parent)}){hint}"
        ) from None
    except ValueError as error:
        raise ValueError(f"{chain[-1]}: its {BASE_KEY}: {error}" if chain else str(error)) from error
    lines = _lines(yaml.compose(text, Loader=LOADER))  # read_yaml has refused what would be dangerous
    data = _mapping(data, f"config file {file}")
    settings: dict[str, Setting] = {}
    for base in _bases(data.pop(BASE_KEY, []), f"{file}, line {lines.get((BASE_KEY,), 1)}"):
        expanded = os.path.expanduser(base)
        beside = expanded if os.path.isabs(expanded) or "://" in base else os.path.join(path.parent, expanded)
        settings = _overlay(settings, _read(beside, (*chain, real)))
    return _overlay(settings, _flatten(data, file, lines))


def _bases(value: object, where: str) -> list[str]:
    """The paths that ``_BASE_`` names."""
    bases = [value] if isinstance(value, str) else value
    if not isinstance(bases, list) or not all(isinstance(base, str) and base for base in bases):
        raise ValueError(f"{where}: {BASE_KEY} must be the path of a config file, or a list of them; got {value!r}")
    return bases


def _mapping(data: object, source: str) -> dict:
    if not isinstance(data, dict):
        found = "is empty" if data is None else f"holds a {type(data).__name__}"
        raise ValueError(
            f"{source} {found}, where keys and values are expected, beginning with {FIRST[0].name}: {FIRST[0].default} or {BASE_KEY}: ..."
        )
    return data


def _flatten(data: dict, file: str, lines: dict[tuple, int], above: tuple = ()) -> dict[str, Setting]:
    """Values by dotted key; a section without keys sets nothing."""
    found = {}
    for name, value in data.items():
        path = (*above, str(name))
        where = f"{file}, line {lines[path]}" if path in lines else file
        if not isinstance(name, str):
            raise ValueError(f"{where}: the key {name!r} is no name; keys are names such as MODEL or SOLVER")
        if "." in name:
            raise ValueError(
                f"{where}: write {name} as sections, one below the other ({': {'.join(name.split('.'))}: ...{'}' * name.count('.')})"
            )
        if isinstance(value, dict):
            found.update(_flatten(value, file, lines, path))
        else:
            found[".".join(path)] = Setting(value, where)
    return found


def _overlay(below: dict[str, Setting], above: dict[str, Setting]) -> dict[str, Setting]:
    """Both, and where both have a key the one above; a section above a value, or a value above a section, replaces it.

    A section that is left empty above, with comments only, changes nothing.
    """
    sections = {".".join(key.split(".")[:n]) for key in above for n in range(1, key.count(".") + 1)}
    kept = {
        key: setting
        for key, setting in below.items()
        if key not in sections
        and not any(key.startswith(f"{other}.") for other, setting in above.items() if setting.value is not None)
    }
    return {**kept, **above}


def _lines(node: yaml.Node | None, above: tuple = ()) -> dict[tuple, int]:
    """Line, from 1, of every key of a document, by its path."""
    found = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*above, key.value)
            found[path] = key.start_mark.line + 1
            found.update(_lines(value, path))
    return found


def _detectron2s(path: Path) -> str | None:
    """One line for a file that is a config of Detectron2's own, naming the plugin's that does the same; None for any other."""
    if path.suffix == ".py":
        return f"{path} is a LazyConfig, which is Python; train_net.py takes YAML (configs/lazy has LazyConfigs for a loop of your own). {_equivalent(path)}"
    texts = list(_texts(path))
    architecture = next((found[1] for text in texts if (found := ARCHITECTURE.search(text))), None)
    if architecture is None or any(FIRST[0].name in text for text in texts):
        return None
    return f"{path} is a config for {architecture} of Detectron2, not for the plugin. {_equivalent(path)}"


def _texts(path: Path) -> Iterator[str]:
    """The text of a file and of those that it is based on, as far as they are there; only to guess what they are."""
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
    """Which of the plugin's configs to use in the place of one of Detectron2's."""
    if (file := _same_name(path)) is not None:
        return f"The plugin's is {file}"
    if "retinanet" in path.stem.lower():
        names = sorted(file.stem for file in shipped("configs/coco").glob("retinanet*.yaml"))
        return f"The plugin has {', '.join(names)} in {shipped('configs/coco')}"
    config = shipped("configs/coco/retinanet_R_50_FPN_1x.yaml")
    return f"The plugin's RetinaNet on COCO is {config}; for data of your own give --data FOLDER"


def _same_name(path: Path) -> Path | None:
    """The shipped config that is called like a file of Detectron2's."""
    files = (shipped("configs") / folder / f"{path.stem}.yaml" for folder in ("", "coco"))
    return next((file for file in files if file.is_file() and os.path.realpath(file) != os.path.realpath(path)), None)
