"""retina analyze as people call it, and its page and that of retina compare in a browser."""

import json

import numpy as np
import pytest
from support import CHROMIUM, screenshot

from retina_plugin.cli.main import main
from retina_plugin.data.digits import generate_digits
from retina_plugin.evaluation.ground_truth import GroundTruth

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two evaluations of the digits, one with a third of the objects missing, and their config."""
    folder = tmp_path_factory.mktemp("analyze")
    generate_digits(folder / "numbers", splits={"train": 2, "val": 12})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        from retina_plugin.analysis.detections import dataset_of

        truth = GroundTruth.of(dataset_of("numbers"))
    rng = np.random.default_rng(0)
    for name, share in (("good", 1.0), ("bad", 0.67)):
        (folder / name).mkdir()
        found = [
            {"image_id": truth.original_ids[x["image_id"]],
             "category_id": truth.original_categories[x["category_id"] - 1],
             "bbox": x["bbox"], "score": float(rng.uniform(0.5, 1))}
            for x in truth.coco["annotations"] if rng.random() < share
        ]  # fmt: skip
        (folder / name / "coco_instances_results.json").write_text(json.dumps(found))
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_an_analysis_has_a_page_numbers_and_an_overview(folder, tmp_path, capsys):
    assert main(["analyze", "bad", "--data", "numbers", "--brightness"]) == 0
    printed = capsys.readouterr().out
    assert "AP " in printed and "What costs most: missed object" in printed
    numbers = json.loads((folder / "bad/analysis.json").read_text())
    assert numbers["errors"]["Miss"][0] > 0 and {x["by"] for x in numbers["slices"]} >= {"brightness of the image"}
    page = (folder / "bad/analysis.html").read_text()
    assert all(
        title in page for title in ("Overview", "Confusion", "Parts of the data", "Images with the most mistakes")
    )
    assert page.count("<img") >= 5


def test_slices_by_a_table(folder, tmp_path):
    lines = [f"{x['file_name']},{'day' if i % 2 else 'night'}" for i, x in enumerate(images(folder))]
    (tmp_path / "x.csv").write_text("\n".join(["file,light", *lines]))
    words = ["--columns", str(tmp_path / "x.csv"), "--output", str(tmp_path / "out")]
    assert main(["analyze", "good", "--data", "numbers", *words]) == 0
    numbers = json.loads((tmp_path / "out/analysis.json").read_text())
    assert {x["name"]: x["images"] for x in numbers["slices"] if x["by"] == "light"} == {"day": 6, "night": 6}


def images(folder):
    return json.loads((folder / "numbers/instances_val.json").read_text())["images"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["analyze", "nowhere"], "no such file"),
        (["analyze", "good"], "give --data"),
        (["analyze", "good", "--data", "numbers", "--columns", "gone.csv"], "gone.csv"),
    ],
)
def test_mistakes_are_named(words, message, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error


@pytest.mark.skipif(CHROMIUM is None, reason="no browser here")
@pytest.mark.parametrize("width", [1150, 420])
def test_browser_renders_both_pages(folder, tmp_path, width):
    import cv2

    main(["analyze", "bad", "--data", "numbers", "--output", "pages"])
    main(["compare", "bad", "good", "--data", "numbers", "--output", "pages", "--samples", "100"])
    for name in ("analysis", "compare"):
        file = tmp_path / f"{name}.png"
        screenshot(folder / f"pages/{name}.html", file, width=width)
        picture = cv2.imread(str(file))
        rows = np.ptp(picture[:, : width - 30].astype(int), axis=(1, 2)) > 40
        assert picture.shape[1] == width and rows.mean() > 0.25, "text, tables and plots are drawn"
