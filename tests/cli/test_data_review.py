"""retina data review as people call it: from detections, and by cross-validation with planted mistakes."""

import csv
import json

import pytest
from support import DIGITS_CONFIG, SMALL

from retina_plugin.cli.main import main
from retina_plugin.data.digits import generate_digits
from retina_plugin.data.discover import find_card
from retina_plugin.data.load import load_split
from retina_plugin.evaluation.ground_truth import GroundTruth

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset, and detections of its validation images that disagree with one annotation."""
    folder = tmp_path_factory.mktemp("review")
    generate_digits(folder / "numbers", splits={"train": 9, "val": 12})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        from retina_plugin.analysis.detections import dataset_of

        truth = GroundTruth.of(dataset_of("numbers"))
    found = [
        {"image_id": truth.original_ids[x["image_id"]], "bbox": x["bbox"], "score": 0.9,
         "category_id": truth.original_categories[x["category_id"] - 1]}
        for x in truth.coco["annotations"]
    ]  # fmt: skip
    found[3]["category_id"] = 1 + found[3]["category_id"] % 10
    (folder / "found.json").write_text(json.dumps(found))
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def candidates(file):
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


def test_detections_give_candidates_and_a_dataset_that_the_page_completes(folder, capsys):
    assert main(["data", "review", "found.json", "--data", "numbers", "--output", "a"]) == 0
    assert "wrong class: 1 candidates" in capsys.readouterr().out
    (one,) = candidates(folder / "a/candidates.csv")
    assert one["kind"] == "class" and one["annotation"] == "4"
    page = (folder / "a/review.html").read_text()
    coco = json.loads(page.split('id="data">')[1].split("</script>")[0])["coco"]
    assert main(["data", "check", "a/dataset"]) == 1, "the corrected annotations are not there yet"
    assert "corrected_numbers_val.json does not exist" in capsys.readouterr().out
    coco["annotations"][3]["category_id"] = 1
    (folder / "a/dataset/corrected_numbers_val.json").write_text(json.dumps(coco))
    card = find_card("a/dataset")
    assert set(card.splits) == {"train", "val"}
    val = load_split(card, "val").records
    assert sum(len(x["annotations"]) for x in val) == len(coco["annotations"])
    assert [x for record in val for x in record["annotations"]][3]["category_id"] == 0


def test_cross_validation_sees_every_image_once_and_continues(folder, capsys):
    words = [f"{key}={value}" for key, value in zip(SMALL[::2], SMALL[1::2], strict=True)]
    words += [
        "SOLVER.MAX_ITER=2",
        "SOLVER.WARMUP_ITERS=1",
        "INPUT.MIN_SIZE_TEST=64",
        "MODEL.RETINANET.SCORE_THRESH_TEST=0",
    ]
    settings = [word for x in words for word in ("--set", x)]
    command = ["data", "review", "numbers", "--folds", "3", "--plant", "0.05", "--output", "b", *settings]
    assert main([*command, "--config-file", str(DIGITS_CONFIG)]) == 0
    said = capsys.readouterr().out
    assert said.count("training on 6 images, prediction on 3") == 3
    assert "planted: " in said and "precision in the first 50: " in (folder / "b/planted.txt").read_text()
    assert len(list((folder / "b/folds").glob("fold*/run/model_final.pth"))) == 3
    assert main([*command, "--config-file", str(DIGITS_CONFIG)]) == 0
    assert "training on" not in capsys.readouterr().out, "trainings that have ended are not repeated"
    assert {x["file"] for x in candidates(folder / "b/candidates.csv")} <= {
        str(file) for file in (folder / "numbers/train").iterdir()
    }
    assert main([*command[:-1], "SEED=3", "--config-file", str(DIGITS_CONFIG)]) == 2
    assert "holds a cross-validation with different opts" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["nowhere"], "no such file"),
        (["found.json"], "give --data"),
        (["found.json", "--data", "numbers", "--plant", "0.1"], "--plant needs --folds"),
        (["found.json", "--data", "numbers", "--most", "0"], "--most must be at least 1"),
        (["numbers", "--folds", "1"], "--folds must be from 2"),
        (["numbers", "--folds", "10"], "number of images, 9"),
        (["numbers", "--folds", "2", "--split", "test"], "has no split test"),
        (["numbers", "--folds", "2", "--plant", "0.9"], "at most 0.25"),
    ],
)
def test_mistakes_are_named(words, message, capsys):
    assert main(["data", "review", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error
