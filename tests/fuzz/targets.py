"""What the fuzzer runs on a folder, and what has to hold whatever is in it."""

import io
import math
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

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
from retina_plugin.data.load import load_split
from retina_plugin.data.pixels import PixelRange, read_image
from retina_plugin.evaluation import EVALUATOR_REGISTRY
from retina_plugin.text import decode, parse_yaml, read_json, read_xml

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")  # and not into the working directory

LONGEST = 5.0
"""Seconds that one input may take."""

MOST_PIXELS = 1 << 22
"""INPUT.MAX_IMAGE_PIXELS of the fuzzer: an image that says it is larger is refused, which keeps memory bounded."""


class Hang(Exception):
    """An input took longer than :data:`LONGEST`."""


@contextmanager
def limited(seconds: float = LONGEST) -> Iterator[None]:
    """Raise :class:`Hang` in what takes longer; C code that does not come back is measured afterwards."""

    def stop(number: int, frame: object) -> None:
        raise Hang(f"took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    begin = time.perf_counter()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if time.perf_counter() - begin > seconds:
        raise Hang(f"took {time.perf_counter() - begin:.1f} s")


@contextmanager
def folder_of(contents: dict[str, bytes], made: list[Change], others: list[bytes] = ()) -> Iterator[Path]:
    """The changed files in a folder that is removed afterwards."""
    folder = tempfile.mkdtemp(prefix="fuzz")
    try:
        changed(contents, made, others=others).write(folder)
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refused(call: Callable, *errors: type[Exception]) -> object | None:
    """What a call returns, or None where it raises what its docstring promises, with a message."""
    try:
        with limited():
            return call()
    except (ValueError, FileNotFoundError, *errors) as error:
        assert str(error), f"{type(error).__name__} without a message"
        assert not isinstance(error, UnicodeError), f"{type(error).__name__} is no message for a person"
        return None


def check_records(card: DatasetCard) -> None:
    """Load every split; what comes out can be trained on, and the sums add up."""
    results = {}
    for split in card.splits:
        result = refused(lambda: load_split(card, split))
        if result is None:
            return
        results[split] = result
        ids = [record["image_id"] for record in result.records]
        assert len(set(ids)) == len(ids), "image ids are unique"
        for record in result.records:
            assert os.path.isfile(record["file_name"])
            height, width = record["height"], record["width"]
            assert isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0
            for x in record["annotations"]:
                x1, y1, x2, y2 = x["bbox"]
                assert all(math.isfinite(v) for v in x["bbox"]) and 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height, x[
                    "bbox"
                ]
                assert (
                    type(x["category_id"]) is int
                    and 0 <= x["category_id"] < len(card.classes)
                    and x["iscrowd"] in (0, 1)
                )
        assert result.boxes == result.boxes_used + sum(problem.boxes for problem in result.problems), (
            "every box is used or was said to be left out"
        )
        assert result.images == len(result.records) + sum(problem.images for problem in result.problems), (
            "and every image"
        )
        assert all(str(problem).isprintable() for problem in result.problems)
    with limited():
        text = account_of(card, results).text()
    assert len(text.splitlines()) == 5 and all(line.isprintable() for line in text.splitlines())


def run_folder(base: str, made: list[Change]) -> None:
    """A folder is found and loaded, or refused."""
    contents = valid.folders()[base]
    with folder_of(contents, made, list(contents.values())) as folder:
        start = folder / valid.WRITTEN if base.startswith(valid.WRITTEN) else folder
        card = refused(lambda: find_card(start))
        if card is not None:
            check_records(card)


def run_check(base: str, made: list[Change]) -> None:
    """``retina data check`` of a folder."""
    contents = valid.folders()[base]
    with folder_of(contents, made, list(contents.values())) as folder:
        card = refused(lambda: find_card(folder))
        report = None if card is None else refused(lambda: check_card(card, progress=False, workers=0))
        if report is not None:
            assert all(line.isprintable() for line in report.text().splitlines())


def ap_of_truth(card: DatasetCard, split: str, evaluator: str = "hotcoco") -> float | None:
    """AP of a detector that finds exactly the boxes of a split that are kept; None where there is nothing to find."""
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
                mine = [x for x in record["annotations"] if not x["iscrowd"]]
                found = Instances((record["height"], record["width"]))
                found.pred_boxes = Boxes(torch.tensor([x["bbox"] for x in mine], dtype=torch.float64).reshape(-1, 4))
                found.scores, found.pred_classes = (
                    torch.ones(len(mine)),
                    torch.tensor([x["category_id"] for x in mine], dtype=torch.int64),
                )
                judge.process([record], [{"instances": found}])
            return judge.evaluate()["bbox"]["AP"]
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


def run_score(base: str, made: list[Change]) -> None:
    """Whatever is kept of a folder, who finds it has AP 100."""
    contents = valid.folders()[base]
    with folder_of(contents, made, list(contents.values())) as folder:
        card = refused(lambda: find_card(folder))
        for split in card.splits if card else ():
            ap = refused(lambda split=split: ap_of_truth(card, split))
            assert ap is None or ap > 99.99, f"AP {ap} of the boxes that are kept"


def run_card(base: str, made: list[Change]) -> None:
    """A card is read and loaded, or refused."""
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
    """A config or a sweep is loaded, or refused."""
    with folder_of({"x.yaml": valid.yamls()[base]}, made) as folder:
        file = folder / "x.yaml"
        refused(lambda: load_sweep(file) if "ablations" in base else load_config(file, ["MODEL.DEVICE", "cpu"]))


def run_image(base: str, made: list[Change]) -> None:
    """An image file is read to 8-bit pixels of the size that its header says, or refused."""
    name = Path(base).name
    with folder_of({name: valid.images()[base]}, made, list(valid.images().values())) as folder:
        file = folder / name
        defect = refused(lambda: (defect_of(file, max_pixels=MOST_PIXELS),))
        header = refused(lambda: read_header(file, max_pixels=MOST_PIXELS), ImageError)
        assert defect is not None and (header is not None or defect[0])
        image = refused(
            lambda: read_image(file, "BGR", value_range=PixelRange(0, 65535), max_pixels=MOST_PIXELS), ImageError
        )
        if image is not None:
            assert header is not None and image.shape == (header.height, header.width, 3) and image.dtype == "uint8"


def run_text(kind: str, data: bytes) -> None:
    """Any bytes at all, as text, JSON, XML and YAML."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        refused(
            lambda: {
                "json": read_json,
                "xml": read_xml,
                "yaml": lambda name: parse_yaml(decode(Path(name).read_bytes())[0]),
            }[kind](file.name)
        )


def inputs(run: Callable) -> st.SearchStrategy[tuple]:
    """The arguments of a target."""
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


TARGETS = {
    "folder": (run_folder, 0.40),
    "check": (run_check, 0.05),
    "score": (run_score, 0.05),
    "card": (run_card, 0.1),
    "yaml": (run_yaml, 0.1),
    "image": (run_image, 0.2),
    "text": (run_text, 0.1),
}
"""By name: what is run, and its share of the inputs."""
