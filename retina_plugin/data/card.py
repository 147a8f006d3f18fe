"""A dataset is a card: a YAML file that says where the data lies and what it is."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from retina_plugin.data.digits import generate_digits
from retina_plugin.data.formats import FORMAT_REGISTRY
from retina_plugin.data.values import spelled_alike
from retina_plugin.paths import data_folder
from retina_plugin.registry import IMPORT_IT
from retina_plugin.text import read_yaml

GENERATORS = {"digits": generate_digits}
"""Functions ``generate(root)`` that make a bundled dataset where it does not exist yet."""

NAME = re.compile(r"[A-Za-z0-9._-]+")
"""Names of cards and of splits: they become names of files and of datasets."""

REQUIRED = ("name", "format", "classes", "splits", "root", "licence", "source")
OPTIONAL = ("generator", "seed", "outside", "value_range", "left_out")


@dataclass(frozen=True)
class DatasetCard:
    """What a card says.

    Args:
        name: splits are registered as "<name>_<split>".
        format: of the annotations, in ``FORMAT_REGISTRY``: "coco", "voc", "yolo", "csv", "labelme", ...
        classes: names, in the order of the labels 0..K-1.
        splits: name of a split to its source (the paths, relative to the root, that the format needs), or to a list of sources, which are
            put together. With "part": [from, to] in the first, a split is that share of the images, in an order that their names and
            ``seed`` decide.
        root: folder of the data, relative to $DETECTRON2_DATASETS or else to the card; the variable
            RETINA_ROOT_<NAME> overrides it.
        licence, source: of the data, for people.
        seed: of the order in which "part" counts images.
        generator: name of the function that makes the data, for bundled datasets.
        outside: whether annotations may name images outside of the root.
        value_range: (low, high) of pixels of more than 8 bits, found once for the data set; None: there are none.
        left_out: annotation files of the folder that are not used, and why.
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
            FileNotFoundError: there is no such file.
            ValueError: with everything that is wrong with it.
        """
        file = Path(file)
        data = read_yaml(file, what="dataset card")
        if problems := faults_of(data):
            raise ValueError(f"dataset card {file}: {'; '.join(problems)}")
        return cls(**data, file=file)

    def sources(self, split: str) -> list[dict]:
        """The sources of a split, without its "part"."""
        entry = self.splits[split]
        return [
            {key: value for key, value in source.items() if key != "part"}
            for source in ([entry] if isinstance(entry, dict) else entry)
        ]

    def part(self, split: str) -> tuple[float, float] | None:
        """The share of the images that a split is, or None: all."""
        entry = self.splits[split]
        return (entry if isinstance(entry, dict) else entry[0]).get("part")

    @property
    def root_variable(self) -> str:
        """Name of the environment variable that overrides the folder of the data."""
        return f"RETINA_ROOT_{re.sub(r'[^A-Z0-9]', '_', self.name.upper())}"

    def root_path(self) -> Path:
        """Folder of the data, from the environment now."""
        if override := os.environ.get(self.root_variable):
            return Path(override).expanduser()
        return Path(os.environ.get("DETECTRON2_DATASETS") or data_folder(self.file)).expanduser() / self.root

    def load(self, split: str) -> list[dict]:
        """Detectron2's dataset dicts of a split, cleaned; see :func:`retina_plugin.data.load.load_split`."""
        from retina_plugin.data.load import load_split

        return load_split(self, split).records

    def text(self) -> str:
        """The card as YAML."""
        data = {
            key: getattr(self, key)
            for key in (*REQUIRED[:1], "format", "root", "classes", "splits", "seed", "licence", "source")
        }
        data |= {key: getattr(self, key) for key in ("generator", "outside", "left_out") if getattr(self, key)}
        if self.value_range is not None:
            data["value_range"] = [float(value) for value in self.value_range]
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def faults_of(data: object) -> list[str]:
    """Everything that is wrong with the contents of a card."""
    if not isinstance(data, dict):
        return [f"is not a mapping of keys to values but {type(data).__name__}"]
    problems = [f"lacks {key!r}" for key in sorted(set(REQUIRED) - set(data))]
    problems += [f"has the unknown key {key!r}" for key in sorted(map(str, set(data) - set(REQUIRED) - set(OPTIONAL)))]
    for key in ("name", "root", "licence", "source"):
        if key in data and not isinstance(data[key], str):
            problems.append(f"{key} must be text, got {data[key]!r}")
    if isinstance(data.get("name"), str) and not NAME.fullmatch(data["name"]):
        problems.append(f"name may have letters, digits, '.', '_' and '-', got {data['name']!r}")
    if isinstance(data.get("root"), str) and "\0" in data["root"]:
        problems.append("root is no path")
    problems += _faults_of_classes(data["classes"]) if "classes" in data else []
    problems += _faults_of_splits(data["splits"]) if "splits" in data else []
    if "format" in data and (not isinstance(data["format"], str) or data["format"] not in FORMAT_REGISTRY):
        problems.append(
            f"format is {data['format']!r}; known: {', '.join(sorted(name for name, _ in FORMAT_REGISTRY))}. {IMPORT_IT}"
        )
    if data.get("generator") is not None and (
        not isinstance(data["generator"], str) or data["generator"] not in GENERATORS
    ):
        problems.append(f"generator is {data['generator']!r}; known: {sorted(GENERATORS)}")
    if not isinstance(data.get("seed", 0), int):
        problems.append(f"seed must be a whole number, got {data['seed']!r}")
    if not isinstance(data.get("outside", False), bool):
        problems.append(f"outside must be true or false, got {data['outside']!r}")
    if not isinstance(data.get("left_out", {}), dict):
        problems.append(f"left_out must map files to reasons, got {data['left_out']!r}")
    if (found := data.get("value_range")) is not None and not (
        isinstance(found, (list, tuple))
        and len(found) == 2
        and all(_is_number(v) for v in found)
        and found[0] < found[1]
    ):
        problems.append(f"value_range must be [low, high], got {found!r}")
    return problems


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _faults_of_classes(classes: object) -> list[str]:
    if not (isinstance(classes, list) and classes and all(isinstance(name, str) and name.strip() for name in classes)):
        return [f"classes must be a list of names (quote numbers), got {str(classes)[:200]}"]
    if len(set(classes)) != len(classes):
        return [f"classes has a name twice: {sorted({name for name in classes if classes.count(name) > 1})[:5]}"]
    return []


def _faults_of_splits(splits: object) -> list[str]:
    if not (isinstance(splits, dict) and splits and all(isinstance(name, str) for name in splits)):
        return [f"splits must map names to the paths of each, got {str(splits)[:200]}"]
    problems = [
        f"the name of a split may have letters, digits, '.', '_' and '-', got {name!r}"
        for name in splits
        if not NAME.fullmatch(name)
    ]
    for name, entry in splits.items():
        sources = entry if isinstance(entry, list) else [entry]
        if not sources or not all(
            isinstance(source, dict) and all(isinstance(key, str) for key in source) for source in sources
        ):
            problems.append(f"the split {name!r} must map paths, or be a list of such mappings, got {str(entry)[:200]}")
            continue
        part = sources[0].get("part")
        if part is not None and not (
            isinstance(part, (list, tuple))
            and len(part) == 2
            and all(_is_number(v) for v in part)
            and 0 <= part[0] < part[1] <= 1
        ):
            problems.append(f"the part of the split {name!r} must be [from, to] within 0..1, got {part!r}")
    return problems


def classes_alike(classes: list[str]) -> list[str]:
    """A line for each group of classes that are spelled almost alike."""
    return [
        " and ".join(map(repr, group)) + " differ only in upper and lower case or spaces"
        for group in spelled_alike(classes)
    ]
