"""A dataset is a card: a YAML file that says where the data lies and what it is."""

import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts

from retina_plugin.data.digits import generate_digits
from retina_plugin.data.formats import FORMAT_REGISTRY
from retina_plugin.data.image_files import defect_of, size_of
from retina_plugin.data.problems import DatasetProblems, Problem, describe

logger = logging.getLogger(__name__)

GENERATORS = {"digits": generate_digits}
"""Functions ``generate(root)`` that make a bundled dataset where it does not exist yet."""

_PROBLEMS: dict[str, list[Problem]] = {}


@dataclass(frozen=True)
class DatasetCard:
    """What a card says.

    Args:
        name: splits are registered as "<name>_<split>".
        format: of the annotations, in ``FORMAT_REGISTRY``: "coco", "voc", "yolo", "csv", "labelme".
        classes: names, in the order of the labels 0..K-1.
        splits: name of a split to the paths, relative to the root, that the format needs. A split with
            "part": [from, to] is that share of the images, in an order that their names and ``seed`` decide.
        root: folder of the data, relative to $DETECTRON2_DATASETS or else to the card; the variable
            RETINA_ROOT_<NAME> overrides it.
        licence, source: of the data, for people.
        seed: of the order in which "part" counts images.
        generator: name of the function that makes the data, for bundled datasets.
        file: where the card was read from.
    """

    name: str
    format: str
    classes: list[str]
    splits: dict[str, dict]
    root: str
    licence: str
    source: str
    seed: int = 0
    generator: str | None = None
    file: Path = field(default=Path("datasets/card.yaml"))

    @classmethod
    def from_file(cls, file: str | os.PathLike) -> "DatasetCard":
        """Read and check a card.

        Raises:
            ValueError: with everything that is wrong with it.
        """
        file = Path(file)
        try:
            data = yaml.safe_load(file.read_text())
        except yaml.YAMLError as error:
            raise ValueError(f"dataset card {file}: {error}") from error
        required = {"name", "format", "classes", "splits", "root", "licence", "source"}
        problems = []
        if not isinstance(data, dict):
            data, problems = {}, ["is not a mapping of keys to values"]
        problems += [f"lacks {key!r}" for key in sorted(required - set(data))]
        problems += [f"has the unknown key {key!r}" for key in sorted(set(data) - required - {"generator", "seed"})]
        classes, splits = data.get("classes"), data.get("splits")
        if "classes" in data and not (isinstance(classes, list) and classes and all(isinstance(c, str) for c in classes)):
            problems.append(f"classes must be a list of names (quote numbers), got {classes!r}")
        elif classes and len(set(classes)) != len(classes):
            problems.append(f"classes has a name twice: {classes}")
        if "splits" in data and not (isinstance(splits, dict) and splits and all(isinstance(s, dict) for s in splits.values())):
            problems.append(f"splits must map names to the paths of each, got {splits!r}")
        if "format" in data and data["format"] not in FORMAT_REGISTRY:
            problems.append(f"format is {data['format']!r}; known: {sorted(name for name, _ in FORMAT_REGISTRY)}")
        if data.get("generator") not in (None, *GENERATORS):
            problems.append(f"generator is {data['generator']!r}; known: {sorted(GENERATORS)}")
        if problems:
            raise ValueError(f"dataset card {file}: {'; '.join(problems)}")
        return cls(**data, file=file)

    @property
    def root_variable(self) -> str:
        """Name of the environment variable that overrides the folder of the data."""
        return f"RETINA_ROOT_{self.name.upper().replace('-', '_')}"

    def root_path(self) -> Path:
        """Folder of the data, from the environment now."""
        if override := os.environ.get(self.root_variable):
            return Path(override).expanduser()
        return Path(os.environ.get("DETECTRON2_DATASETS", self.file.parent)).expanduser() / self.root

    def load(self, split: str) -> list[dict]:
        """Detectron2's dataset dicts of a split; what was wrong is logged and kept for :func:`dataset_problems`.

        Raises:
            FileNotFoundError: the data is not there; says where it was looked for.
            ValueError: the annotations cannot be read at all.
        """
        root, name = self.root_path(), f"{self.name}_{split}"
        if not root.exists() and self.generator:
            GENERATORS[self.generator](root)
        if not root.exists():
            raise FileNotFoundError(
                f"dataset {name}: there is no folder {root}. Get the data from {self.source} and put it there, or set "
                f"{self.root_variable} to its folder, or DETECTRON2_DATASETS to the folder that holds {self.root}"
            )
        try:
            result = FORMAT_REGISTRY.get(self.format)(root, self.splits[split], self.classes)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"dataset {name} (card {self.file}): {error}") from error
        if "part" in self.splits[split]:
            others = {record["image_id"] for record in result.records}
            result.records = part_of(result.records, *self.splits[split]["part"], seed=self.seed)
            others -= {record["image_id"] for record in result.records}
            result.problems = [problem for problem in result.problems if problem.image not in others]
            result.metadata = {}  # the file holds other parts, too: what is evaluated has to be converted from the records
        self._set_metadata(split, **result.metadata)
        _PROBLEMS[name] = result.problems
        if result.problems:
            logger.warning("dataset %s: %s", name, describe(result.problems))
        if not any(record["annotations"] for record in result.records):
            logger.warning("dataset %s: %d images and not a single usable box", name, len(result.records))
        return result.records

    def _set_metadata(self, split: str, **more) -> None:
        """Describe a split to detectron2 anew: its entry refuses a change, which another root would be."""
        name = f"{self.name}_{split}"
        if name in MetadataCatalog:
            MetadataCatalog.pop(name)
        MetadataCatalog.get(name).set(thing_classes=self.classes, evaluator_type="coco", card=str(self.file.resolve()), **more)


def image_defects(records: list[dict]) -> dict[str, Problem]:
    """What is wrong with image files, by file, as far as it shows without decoding: the quick part of ``retina data check``."""

    def look(record: dict) -> str | None:
        file, said = record["file_name"], (record["height"], record["width"])
        if defect := defect_of(file):
            return defect
        h, w = size_of(file)
        return None if (h, w) == said else f"is {w}x{h}, but the annotations say {said[1]}x{said[0]}"

    with ThreadPoolExecutor() as pool:
        return {r["file_name"]: Problem(r["file_name"], what, r["image_id"]) for r, what in zip(records, pool.map(look, records), strict=True) if what}


def part_of(records: list[dict], begin: float, end: float, *, seed: int) -> list[dict]:
    """The images from ``begin`` to ``end`` (0..1) of an order that their ids and the seed decide, as they were ordered before.

    Parts that do not overlap share no image, and a new image leaves the others about where they were.
    """
    order = sorted(records, key=lambda record: hashlib.sha256(f"{seed} {record['image_id']}".encode()).digest())
    chosen = {id(record) for record in order[round(begin * len(order)) : round(end * len(order))]}
    return [record for record in records if id(record) in chosen]


def dataset_problems(name: str) -> list[Problem]:
    """What was wrong with a split when it was last loaded; empty for datasets that are no card's."""
    return _PROBLEMS.get(name, [])


def load_datasets(names: list[str], *, filter_empty: bool, on_problem: str, empty_share: float = 1.0, seed: int = 0, check_images: bool = False) -> list[dict]:
    """Detectron2's dataset dicts of several registered datasets, together.

    Args:
        names: in detectron2's ``DatasetCatalog``.
        filter_empty: leave out images without boxes.
        empty_share: of the images without boxes, the share that is kept if they are not left out.
        seed: decides which.
        check_images: look at the header and the end of every image file first, see :func:`image_defects`.
        on_problem: "drop", or "refuse" to stop if anything is wrong with one of them.

    Raises:
        DatasetProblems: with all problems of a dataset.
        KeyError: a dataset is not registered.
        ValueError: there is nothing to train on.
    """
    try:
        records = get_detection_dataset_dicts(names, filter_empty=filter_empty)
    except AssertionError as error:  # detectron2's way to say that a dataset is empty
        found = [problem for name in names for problem in dataset_problems(name)]
        raise ValueError(f"nothing to train on in {', '.join(names) or 'DATASETS.TRAIN ()'}: {error} {describe(found)}") from error
    problems = [problem for name in names for problem in dataset_problems(name)]
    if check_images:
        defects = image_defects(records)
        records = [record for record in records if record["file_name"] not in defects]
        problems += defects.values()
        if defects:
            logger.warning("images: %s", describe(list(defects.values())))
        if not records:
            raise ValueError(f"nothing to train on in {', '.join(names)}: no image can be used; {describe(problems)}")
    if on_problem == "refuse" and problems:
        raise DatasetProblems(", ".join(names), problems)
    without = [record for record in records if not any(not x.get("iscrowd", 0) for x in record.get("annotations", []))]
    if empty_share < 1 and without:
        kept = {id(record) for record in part_of(without, 0.0, empty_share, seed=max(0, seed))}
        dropped = {id(record) for record in without} - kept
        records = [record for record in records if id(record) not in dropped]
        logger.info("%d of %d images without objects are trained on", len(kept), len(without))
    return records


def register_card(file: str | os.PathLike) -> DatasetCard:
    """Register the splits of a card as "<name>_<split>", without reading the data.

    Registering the same file again changes nothing.

    Raises:
        ValueError: the card is wrong, or another dataset has the name of one of its splits.
    """
    card = DatasetCard.from_file(file)
    for split in card.splits:
        name = f"{card.name}_{split}"
        registered_by = MetadataCatalog.get(name).get("card") if name in DatasetCatalog else None
        if registered_by == str(card.file.resolve()):
            continue
        if name in DatasetCatalog:
            raise ValueError(f"dataset card {file}: {name!r} is already registered" + (f" by {registered_by}" if registered_by else ""))
        DatasetCatalog.register(name, lambda split=split: card.load(split))
        card._set_metadata(split)
    return card


def is_card(file: str | os.PathLike) -> bool:
    """Whether a YAML file is a dataset card, and not YOLO's data.yaml, say."""
    try:
        data = yaml.safe_load(Path(file).read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(data, dict) and {"format", "splits"} <= set(data)


def card_folders() -> list[Path]:
    """Where cards lie: ``datasets/`` of the repository and of the working directory."""
    return [Path(__file__).resolve().parents[2] / "datasets", Path.cwd() / "datasets"]


def register_cards() -> None:
    """Register every card in ``datasets/`` of the repository and of the working directory.

    A card that is wrong is reported and left out, so that it cannot keep the plugin from being imported.
    """
    for file in dict.fromkeys(file.resolve() for folder in card_folders() if folder.is_dir() for file in sorted(folder.glob("*.yaml"))):
        try:
            register_card(file)
        except ValueError as error:
            logger.error("%s; its datasets are not registered", error)
