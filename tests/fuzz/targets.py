"""What the fuzzer runs, and what must hold whatever the input is."""

import functools
import io
import math
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from fuzz import valid
from fuzz.changes import Change, changed, changes
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from retina_plugin import load_config
from retina_plugin.ablation import load_sweep
from retina_plugin.data.account import account_of
from retina_plugin.data.card import DatasetCard
from retina_plugin.data.catalog import is_card
from retina_plugin.data.check import check_card
from retina_plugin.data.discover import find_card
from retina_plugin.data.image_files import ImageError, defect_of, read_header
from retina_plugin.data.load import LoadResult, load_split
from retina_plugin.data.pixels import PixelRange, read_image
from retina_plugin.evaluation import EVALUATOR_REGISTRY
from retina_plugin.text import decode, parse_yaml, read_json, read_xml

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")  # instead of the working directory

LONGEST = 5.0
"""Seconds that one input may take."""

MOST_PIXELS = 1 << 22
"""INPUT.MAX_IMAGE_PIXELS of the fuzzer: an image whose header states more is refused, which bounds the memory."""


Result = TypeVar("Result")


class HangError(Exception):
    """An input took longer than :data:`LONGEST`."""


@contextmanager
def limited(seconds: float = LONGEST) -> Iterator[None]:
    """Raise :class:`HangError` in code that takes longer.

    C code cannot be interrupted; its time is measured when it returns.
    """

    def stop(number: int, frame: object) -> None:
        """Handle the signal of the timer."""
        raise HangError(f"took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    start = time.perf_counter()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if time.perf_counter() - start > seconds:
        raise HangError(f"took {time.perf_counter() - start:.1f} s")


@contextmanager
def folder_of(contents: dict[str, bytes], made: list[Change], others: Sequence[bytes] = ()) -> Iterator[Path]:
    """Write the changed files to a folder that is removed afterwards; see :func:`fuzz.changes.changed`."""
    folder = tempfile.mkdtemp(prefix="fuzz")
    try:
        changed(contents, made, others=others).write(folder)
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refused(call: Callable[[], Result], *errors: type[Exception]) -> Result | None:
    """Return what a call returns, or None if it raises, with a message, what its docstring promises.

    Args:
        call: takes no arguments.
        errors: allowed besides ValueError and FileNotFoundError.
    """
    try:
        with limited():
            return call()
    except (ValueError, FileNotFoundError, *errors) as error:
        assert str(error), f"{type(error).__name__} without a message"
        assert not isinstance(error, UnicodeError), f"{type(error).__name__} is not a message for users"
        return None


def check_record(record: dict, classes: int) -> None:
    """Check that a record is complete and that its boxes are inside the image."""
    assert os.path.isfile(record["file_name"])
    height, width = record["height"], record["width"]
    assert isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0
    for x in record["annotations"]:
        x1, y1, x2, y2 = x["bbox"]
        assert all(math.isfinite(value) for value in x["bbox"]), x["bbox"]
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height, x["bbox"]
        assert type(x["category_id"]) is int and 0 <= x["category_id"] < classes
        assert x["iscrowd"] in (0, 1)


def check_records(card: DatasetCard) -> None:
    """Load every split, and check that its records can be trained on and that the counts add up."""
    results: dict[str, LoadResult] = {}
    for split in card.splits:
        result = refused(functools.partial(load_split, card, split))
        if result is None:
            return
        results[split] = result
        ids = [record["image_id"] for record in result.records]
        assert len(set(ids)) == len(ids), "image ids are unique"
        for record in result.records:
            check_record(record, len(card.classes))
        lost_boxes = sum(problem.boxes for problem in result.problems)
        lost_images = sum(problem.images for problem in result.problems)
        assert result.boxes == result.boxes_used + lost_boxes, "every box is used or reported as left out"
        assert result.images == len(result.records) + lost_images, "and so is every image"
        assert all(str(problem).isprintable() for problem in result.problems)
    with limited():
        text = account_of(card, results).text()
    assert len(text.splitlines()) == 5 and all(line.isprintable() for line in text.splitlines())


def run_folder(base: str, made: list[Change]) -> None:
    """Find and load a folder, unless it is refused."""
    contents = valid.folders()[base]
    with folder_of(contents, made, list(contents.values())) as folder:
        start = folder / valid.WRITTEN if base.startswith(valid.WRITTEN) else folder
        card = refused(lambda: find_card(start))
        if card is not None:
            check_records(card)


def run_check(base: str, made: list[Change]) -> None:
    """Run ``retina data check`` on a folder."""
    contents = valid.folders()[base]
    with folder_of(contents, made, list(contents.values())) as folder:
        card = refused(lambda: find_card(folder))
        report = None if card is None else refused(lambda: check_card(card, progress=False, workers=0))
        if report is not None:
            assert all(line.isprintable() for line in report.text().splitlines())


def ap_of_truth(card: DatasetCard, split: str, evaluator: str = "hotcoco") -> float | None:
    """Return the AP of detections that are exactly the boxes of a split; None if the split has no box."""
    name = f"fuzz {card.root_path()} {split}"
    records = load_split(card, split).records
    if not any(not x["iscrowd"] for record in records for x in record["annotations"]):
        return None
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(thing_classes=card.classes)
    try:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            judge = EVALUATOR_REGISTRY.get(evaluator)(name, output_dir=folder, detections_per_image=1000)
            judge.reset()
            for record in records:
                objects = [x for x in record["annotations"] if not x["iscrowd"]]
                found = Instances((record["height"], record["width"]))
                found.pred_boxes = Boxes(torch.tensor([x["bbox"] for x in objects], dtype=torch.float64).reshape(-1, 4))
                found.scores = torch.ones(len(objects))
                found.pred_classes = torch.tensor([x["category_id"] for x in objects], dtype=torch.int64)
                judge.process([record], [{"instances": found}])
            return judge.evaluate()["bbox"]["AP"]
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


def run_score(base: str, made: list[Change]) -> None:
    """Check that detections that equal the boxes of a folder have AP 100."""
    contents = valid.folders()[base]
    with folder_of(contents, made, list(contents.values())) as folder:
        card = refused(lambda: find_card(folder))
        for split in card.splits if card else ():
            ap = refused(functools.partial(ap_of_truth, card, split))
            assert ap is None or ap > 99.99, f"AP {ap} of the boxes themselves"


def run_card(base: str, made: list[Change]) -> None:
    """Read and load a card, unless it is refused."""
    with folder_of({"pets.yaml": valid.cards()[base]}, made) as folder:
        data = folder / "data"
        data.mkdir(exist_ok=True)
        for name, content in valid.folders()["coco"].items():
            (data / name).write_bytes(content)
        file = folder / "pets.yaml"
        refused(lambda: is_card(file))
        card = refused(lambda: DatasetCard.from_file(file))
        if card is not None:
            assert card.text()
            check_records(card)


def run_yaml(base: str, made: list[Change]) -> None:
    """Load a config or a sweep, unless it is refused."""
    with folder_of({"x.yaml": valid.yamls()[base]}, made) as folder:
        file = folder / "x.yaml"
        refused(lambda: load_sweep(file) if "ablations" in base else load_config(file, ["MODEL.DEVICE", "cpu"]))


def run_image(base: str, made: list[Change]) -> None:
    """Read an image file to 8-bit pixels of the size in its header, unless it is refused."""
    name = Path(base).name
    with folder_of({name: valid.images()[base]}, made, list(valid.images().values())) as folder:
        file = folder / name
        defect = refused(lambda: (defect_of(file, max_pixels=MOST_PIXELS),))
        header = refused(lambda: read_header(file, max_pixels=MOST_PIXELS), ImageError)
        assert defect is not None and (header is not None or defect[0])
        options = {"value_range": PixelRange(0, 65535), "max_pixels": MOST_PIXELS}
        image = refused(lambda: read_image(file, "BGR", **options), ImageError)
        if image is not None:
            assert header is not None
            assert image.shape == (header.height, header.width, 3) and image.dtype == "uint8"


def run_text(kind: str, data: bytes) -> None:
    """Parse arbitrary bytes as JSON, XML or YAML, unless they are refused."""
    parsers: dict[str, Callable[[str], object]] = {
        "json": read_json,
        "xml": read_xml,
        "yaml": lambda name: parse_yaml(decode(Path(name).read_bytes())[0]),
    }
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        refused(lambda: parsers[kind](file.name))


def inputs(run: Callable) -> st.SearchStrategy[tuple]:
    """Draw the arguments of a target."""
    if run is run_text:
        texts = st.one_of(
            st.binary(max_size=60),
            st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
            st.text("{}[]<>:,-&*!|>'\" \n\tae01.", max_size=60).map(str.encode),
        )
        return st.tuples(st.sampled_from(["json", "xml", "yaml"]), texts)
    bases = {
        run_folder: valid.folders,
        run_check: valid.folders,
        run_score: valid.folders,
        run_card: valid.cards,
        run_yaml: valid.yamls,
        run_image: valid.images,
    }[run]()
    return st.tuples(st.sampled_from(sorted(bases)), changes(names=run is not run_yaml and run is not run_card))


class Target(NamedTuple):
    """What is run, and its share of all inputs, 0..1."""

    run: Callable
    share: float


TARGETS = {
    "folder": Target(run_folder, 0.40),
    "check": Target(run_check, 0.05),
    "score": Target(run_score, 0.05),
    "card": Target(run_card, 0.1),
    "yaml": Target(run_yaml, 0.1),
    "image": Target(run_image, 0.2),
    "text": Target(run_text, 0.1),
}
