"""The review page: its parts, and in a browser what a person accepts, rejects and saves."""

import json

import numpy as np
import pytest
from planted import scene
from support import CHROMIUM

from retina_plugin.analysis.review import Candidate
from retina_plugin.report.review_page import crop_around, write_review

playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")

CANDIDATES = [
    Candidate("class", 1, 0.9, 1, (10, 10, 20, 20), 1),
    Candidate("missing", 1, 0.8, None, (60, 60, 25, 20), 2),
    Candidate("box", 2, 0.7, 3, (15, 10, 20, 20), 0),
    Candidate("duplicate", 2, 0.6, 4, None, None),
    Candidate("missing", 2, 0.5, None, (200, 200, 20, 20), 0),
]


@pytest.fixture
def review(tmp_path):
    """A page of a candidate of each kind, and the annotations."""
    detections = scene(
        [([(10, 10, 20, 20, 0), (100, 10, 20, 20, 1)], []), ([(10, 10, 20, 20, 0), (11, 10, 20, 20, 0)], [])]
    )
    detections.coco["categories"][0]["name"] = "</script>"
    detections.truth.class_names = ["</script>", "dog", "emu"]
    file = write_review(
        CANDIDATES,
        detections,
        tmp_path / "review.html",
        coco=detections.coco,
        download="corrected.json",
        where="Put it <there>.",
        read=lambda file: np.full((400, 400, 3), 128, np.uint8),
    )
    return file, detections.coco


def test_an_image_that_cannot_be_read_is_left_out(tmp_path, caplog):
    detections = scene([([(10, 10, 20, 20, 0)], [])])

    def gone(file):
        raise ValueError("gone")

    write_review(
        CANDIDATES[:1], detections, tmp_path / "x.html", coco=detections.coco, download="x", where="", read=gone
    )
    assert "0.png cannot be shown" in caplog.text


def test_the_crop_is_inside_the_image_and_shows_the_surroundings():
    assert crop_around([(380, 0, 20, 20)], (400, 400)) == [304, 0, 96, 96]
    assert crop_around([(0, 0, 400, 400)], (400, 400)) == [0, 0, 400, 400]


@pytest.fixture
def browser_page(review):
    """The page, open in a browser that is offline."""
    if CHROMIUM is None:
        pytest.skip("no browser here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(accept_downloads=True, offline=True)
        page = context.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(review[0].as_uri())
        yield page
        assert not errors
        browser.close()


def saved(page, tmp_path):
    """The file that the page saves."""
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "corrected.json"
    download.value.save_as(tmp_path / "saved.json")
    return json.loads((tmp_path / "saved.json").read_text())


def test_without_decisions_the_annotations_are_saved_as_they_are(browser_page, review, tmp_path):
    assert browser_page.locator(".card").count() == 5
    found = saved(browser_page, tmp_path)
    assert {**found, "info": {}} == review[1]


def test_accepted_corrections_of_each_kind_are_in_the_file(browser_page, review, tmp_path):
    cards = browser_page.locator(".card")
    for i in range(4):
        cards.nth(i).locator("button.accept").click()
    cards.nth(4).locator("button.reject").click()
    cards.nth(1).locator("select").select_option("1")  # the person knows better than the detector: dog
    assert "4 accepted, 1 rejected, 0 undecided" in browser_page.locator("#progress").inner_text()
    found = saved(browser_page, tmp_path)
    by_id = {x["id"]: x for x in found["annotations"]}
    assert sorted(by_id) == [1, 2, 3, 5]
    assert by_id[1]["category_id"] == 2 and by_id[1]["bbox"] == [10, 10, 20, 20]
    assert by_id[2] == review[1]["annotations"][1]
    assert by_id[3]["bbox"] == [15, 10, 20, 20] and by_id[3]["area"] == 400
    assert by_id[5] == {
        "id": 5, "image_id": 1, "category_id": 2, "bbox": [60, 60, 25, 20], "area": 500, "iscrowd": 0,
        "segmentation": [],
    }  # fmt: skip
    assert found["info"]["review"] == {"candidates": 5, "accepted": 4, "rejected": 1}


def test_keys_decide_and_move_on_and_decisions_survive_a_reload(browser_page):
    for key in ("ArrowRight", "a", "r", "a", "u"):
        browser_page.keyboard.press(key)
    assert "2 accepted, 1 rejected" in browser_page.locator("#progress").inner_text()
    browser_page.reload()
    assert "2 accepted, 1 rejected" in browser_page.locator("#progress").inner_text()
    browser_page.select_option("#state", "open")
    assert browser_page.locator(".card").count() == 2
    browser_page.select_option("#kind", "duplicate")
    assert browser_page.locator(".card").count() == 1


@pytest.mark.parametrize("width", [420, 1150])
def test_pictures_have_their_boxes_and_the_page_fits_a_phone(browser_page, width):
    browser_page.set_viewport_size({"width": width, "height": 900})
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= width
    for i, boxes in enumerate([2, 1, 2, 1, 1]):
        assert browser_page.locator(".card").nth(i).locator(".label, .model").count() == boxes
    picture = browser_page.locator(".card .picture").first
    inside, box = picture.bounding_box(), picture.locator(".model").bounding_box()
    assert inside["x"] <= box["x"] and box["x"] + box["width"] <= inside["x"] + inside["width"] + 1
    # 20 of 96 pixels of the crop.
    assert box["width"] / inside["width"] == pytest.approx(20 / 96, rel=0.02)
