"""Dataset cards: YAML files that describe where a dataset is and what it contains."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from retina_plugin.data.digits import GENERATORS
from retina_plugin.data.formats import FORMAT_REGISTRY
from retina_plugin.data.values import spelled_alike
from retina_plugin.paths import data_folder
from retina_plugin.registry import IMPORT_IT
from retina_plugin.text import read_yaml

RUN_CARD = "dataset.yaml"
"""File name of the dataset card in the folder of a run that was started with ``--data``."""

NAME = re.compile(r"[A-Za-z0-9._-]+")
"""Names of cards and of splits; they become names of files and of datasets."""

REQUIRED = ("name", "format", "classes", "splits", "root", "licence", "source")
OPTIONAL = ("generator", "seed", "outside", "value_range", "left_out")


@dataclass(frozen=True)
class DatasetCard:
    """The contents of a card.

    Args:
        name: splits are registered as "<name>_<split>".
        format: of the annotations, a name in ``FORMAT_REGISTRY``: "coco", "voc", "yolo", "csv", "labelme", ...
        classes: names in the order of the labels 0..K-1.
        splits: from the name of a split to its source (the paths, relative to the root, that the format needs) or a
            list of sources to merge. If the first source has "part": [from, to], the split is that share of the images,
            in an order determined by their names and ``seed``.
        root: folder of the data, relative to $DETECTRON2_DATASETS if that is set, else to the folder of the card; the
            environment variable RETINA_ROOT_<NAME> overrides it.
        licence, source: of the data, for readers.
        seed: of the order of the images in which "part" is counted.
        generator: name of the function that creates the data, for bundled datasets.
        outside: whether annotations may name images outside of the root.
        value_range: (low, high) of the pixels of images of more than 8 bits, determined once per dataset; None if the
            dataset has no such images.
        left_out: annotation files of the folder that are not used, and why; see :func:`several`.
        file: where the card was read from.
    """

    name: str
    format: str
    classes: list[str]
    splits: dict[str, dict | list[dict]]
    root: str
    licence: str
    source: str
    seed: int = 0
    generator: str | None = None
    outside: bool = False
    value_range: tuple[float, float] | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    file: Path = field(default=Path("datasets/card.yaml"))

    @classmethod
    def from_file(cls, file: str | os.PathLike) -> "DatasetCard":
        """Read and check a card.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the card is wrong; lists everything that is.
        """
        file = Path(file)
        data: Any = read_yaml(file, what="dataset card")
        if problems := faults_of(data):
            raise ValueError(f"dataset card {file}: {'; '.join(problems)}")
        return cls(**data, file=file)

    def sources(self, split: str) -> list[dict]:
        """Return the sources of a split, without their "part"."""
        entry = self.splits[split]
        return [
            {key: value for key, value in source.items() if key != "part"}
            for source in ([entry] if isinstance(entry, dict) else entry)
        ]

    def part(self, split: str) -> tuple[float, float] | None:
        """Return the share of the images that a split is, (from, to) in 0..1, or None if it is all of them."""
        entry = self.splits[split]
        return (entry if isinstance(entry, dict) else entry[0]).get("part")

    @property
    def root_variable(self) -> str:
        """Return the name of the environment variable that overrides the folder of the data."""
        return f"RETINA_ROOT_{re.sub(r'[^A-Z0-9]', '_', self.name.upper())}"

    def root_path(self) -> Path:
        """Return the folder of the data, as the environment variables currently set it."""
        if override := os.environ.get(self.root_variable):
            return Path(override).expanduser()
        return Path(os.environ.get("DETECTRON2_DATASETS") or data_folder(self.file)).expanduser() / self.root

    def load(self, split: str) -> list[dict]:
        """Return Detectron2's dataset dicts of a split, cleaned; see :func:`retina_plugin.data.load.load_split`."""
        from retina_plugin.data.load import load_split

        return load_split(self, split).records

    def text(self) -> str:
        """Return the card as YAML."""
        keys = ("name", "format", "root", "classes", "splits", "seed", "licence", "source")
        data = {key: getattr(self, key) for key in keys}
        data |= {key: getattr(self, key) for key in ("generator", "outside", "left_out") if getattr(self, key)}
        if self.value_range is not None:
            data["value_range"] = [float(value) for value in self.value_range]
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def several(file: str, count: int) -> str:
    """Return the key of ``left_out`` that stands for ``count`` files, of which the first is named.

    Example:
        >>> several("xml/a.xml", 20)
        'xml/a.xml and 19 more'
    """
    return f"{file} and {count - 1} more"


def names_several(key: str) -> bool:
    """Return whether a key of ``left_out`` stands for several files, see :func:`several`.

    Example:
        >>> names_several("xml/a.xml and 19 more"), names_several("a.json")
        (True, False)
    """
    return re.search(r" and \d+ more$", key) is not None


def faults_of(data: object) -> list[str]:
    """Return everything that is wrong with the contents of a card."""
    if not isinstance(data, dict):
        return [f"must be a mapping of keys to values, got {type(data).__name__}"]
    problems = [f"lacks {key!r}" for key in sorted(set(REQUIRED) - set(data))]
    problems += [f"has the unknown key {key!r}" for key in sorted(map(str, set(data) - set(REQUIRED) - set(OPTIONAL)))]
    for key in ("name", "root", "licence", "source"):
        if key in data and not isinstance(data[key], str):
            problems.append(f"{key} must be text, got {data[key]!r}")
    if isinstance(data.get("name"), str) and not NAME.fullmatch(data["name"]):
        problems.append(f"name may have letters, digits, '.', '_' and '-', got {data['name']!r}")
    if isinstance(data.get("root"), str) and "\0" in data["root"]:
        problems.append("root must be a path, got a zero byte in it")
    problems += _faults_of_classes(data["classes"]) if "classes" in data else []
    problems += _faults_of_splits(data["splits"]) if "splits" in data else []
    formats = sorted(name for name, _ in FORMAT_REGISTRY)
    if "format" in data and data["format"] not in formats:
        problems.append(f"format is {data['format']!r}; known: {', '.join(formats)}. {IMPORT_IT}")
    if data.get("generator") is not None and data["generator"] not in list(GENERATORS):
        problems.append(f"generator is {data['generator']!r}; known: {', '.join(sorted(GENERATORS))}")
    if not isinstance(data.get("seed", 0), int):
        problems.append(f"seed must be a whole number, got {data['seed']!r}")
    if not isinstance(data.get("outside", False), bool):
        problems.append(f"outside must be true or false, got {data['outside']!r}")
    if not isinstance(data.get("left_out", {}), dict):
        problems.append(f"left_out must map files to reasons, got {data['left_out']!r}")
    found = data.get("value_range")
    if found is not None and not _is_interval(found):
        problems.append(f"value_range must be [low, high], got {found!r}")
    return problems


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _is_interval(value: object) -> bool:
    """Return whether a value is a pair of numbers, the first less than the second."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return False
    return all(map(_is_number, value)) and value[0] < value[1]


def _faults_of_classes(classes: object) -> list[str]:
    if not (isinstance(classes, list) and classes and all(isinstance(name, str) and name.strip() for name in classes)):
        return [f"classes must be a list of names (quote numbers), got {str(classes)[:200]}"]
    if len(set(classes)) != len(classes):
        twice = sorted({name for name in classes if classes.count(name) > 1})
        return [f"classes must be unique, got more than once: {', '.join(map(repr, twice[:5]))}"]
    return []


def _faults_of_splits(splits: object) -> list[str]:
    if not (isinstance(splits, dict) and splits and all(isinstance(name, str) for name in splits)):
        return [f"splits must map the name of each split to its paths, got {str(splits)[:200]}"]
    problems = [
        f"the name of a split may have letters, digits, '.', '_' and '-', got {name!r}"
        for name in splits
        if not NAME.fullmatch(name)
    ]
    for name, entry in splits.items():
        sources = entry if isinstance(entry, list) else [entry]
        if not sources or not all(map(_is_source, sources)):
            problems.append(
                f"the split {name!r} must map keys to paths, or be a list of such mappings, got {str(entry)[:200]}"
            )
            continue
        part = sources[0].get("part")
        if part is not None and not (_is_interval(part) and part[0] >= 0 and part[1] <= 1):
            problems.append(f"the part of the split {name!r} must be [from, to] within 0..1, got {part!r}")
    return problems


def _is_source(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def classes_alike(classes: list[str]) -> list[str]:
    """Return one line per group of classes with almost the same spelling."""
    return [
        " and ".join(map(repr, group)) + " differ only in case, spaces, hyphens or underscores"
        for group in spelled_alike(classes)
    ]
