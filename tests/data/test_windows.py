"""Parts of training images: where they lie, how large they become, and that boxes follow the pixels."""

import cv2
import numpy as np
import pytest
from support import BASE, TINY

from detectron2.structures import BoxMode

from retina_plugin import load_config
from retina_plugin.data.mapper import RetinaMapper, retina_mapper
from retina_plugin.data.windows import RandomWindows, Window

OBJECT = np.array([[210.2, 100.0, 240.7, 160.0]])
NONE = np.zeros((0, 4))


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)


def windows(**options):
    return RandomWindows(**{"sizes": (50,), "longest": 80, "anywhere": 0.0, **options})


def shapes(some):
    return [(w.bottom - w.top, w.right - w.left, w.height, w.width) for w in some]


@pytest.mark.parametrize(
    ("factor", "want"),
    [(1.0, (100, 100, 50, 50)), (2.0, (50, 50, 50, 50)), (0.5, (200, 200, 50, 50)), (0.25, (300, 400, 38, 50))],
)
def test_a_tile_is_smaller_by_the_factor_and_as_large_in_the_network(factor, want):
    # A tile of 100 px becomes 50 px. At a quarter of the size, it would be 400 px: the image has 300 rows,
    # which become 300 * 0.5 * 0.25 = 37.5 px.
    some = windows(tile=100, jitter=(factor, factor))
    assert shapes([some.draw(300, 400, NONE)]) == [want]


@pytest.mark.parametrize(
    ("factor", "want"), [(1.0, (300, 400, 50, 67)), (0.5, (300, 400, 25, 33)), (2.0, (150, 200, 50, 67))]
)
def test_jitter_of_a_whole_image_shrinks_it_or_cuts_it(factor, want):
    assert shapes([windows(jitter=(factor, factor)).draw(300, 400, NONE)]) == [want]


def test_the_longer_side_is_limited_as_without_windows():
    assert shapes([windows(jitter=(1.0, 1.0)).draw(100, 400, NONE)]) == [(100, 400, 20, 80)]


def test_an_image_smaller_than_a_tile_is_used_whole_at_the_resolution_of_the_tiles():
    assert shapes([windows(tile=100).draw(60, 300, NONE)]) == [(60, 100, 30, 50)]
    assert shapes([windows(tile=100).draw(1, 1, NONE)]) == [(1, 1, 1, 1)]


def test_size_0_does_not_resize():
    assert shapes([windows(sizes=(0,), tile=100).draw(300, 400, NONE)]) == [(100, 100, 100, 100)]


def test_a_window_contains_an_object_whole_wherever_it_lies():
    drawn = [windows(tile=100).draw(300, 400, OBJECT) for _ in range(300)]
    assert all(w.left <= 210.2 and w.right >= 240.7 and w.top <= 100 and w.bottom >= 160 for w in drawn)
    # left can be 141 (the right border at 241) to 210, top 60 to 100
    assert {min(w.left for w in drawn), max(w.left for w in drawn)} == {141, 210}
    assert {min(w.top for w in drawn), max(w.top for w in drawn)} == {60, 100}


def test_a_window_lies_inside_an_object_that_is_larger():
    drawn = [windows(tile=20).draw(300, 400, OBJECT) for _ in range(200)]
    assert all(w.left >= 210 and w.right <= 241 and w.top >= 100 and w.bottom <= 160 for w in drawn)


def test_some_windows_lie_anywhere():
    drawn = [windows(tile=100, anywhere=0.5).draw(300, 400, OBJECT) for _ in range(400)]
    without = [w for w in drawn if w.right < 241 or w.left > 210 or w.top > 100 or w.bottom < 160]
    assert 100 < len(without) < 220, "of about 200 that lie anywhere, few contain the object by chance"


def test_the_sizes_of_a_range_are_all_drawn():
    some = windows(sizes=(50, 60), is_range=True, tile=100)
    assert {some.draw(300, 400, NONE).height for _ in range(300)} == set(range(50, 61))


@pytest.mark.parametrize(("name", "quality"), [("a.png", 0), ("a.jpg", 100)])
@pytest.mark.parametrize("tile", [0, 400])
def test_boxes_follow_the_pixels(tmp_path, name, quality, tile):
    image = np.zeros((1000, 1600, 3), np.uint8)
    boxes = np.array([[100, 80, 301, 255], [640, 520, 700, 801], [1201, 301, 1405, 377]])
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 255
    cv2.imwrite(str(tmp_path / name), image, [cv2.IMWRITE_JPEG_QUALITY, quality] if quality else [])
    annotations = [{"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0} for box in boxes]
    record = {"file_name": str(tmp_path / name), "height": 1000, "width": 1600, "annotations": annotations}
    some = RandomWindows(sizes=(100,), longest=400, tile=tile, anywhere=0.0, jitter=(0.6, 2.0))
    mapper = RetinaMapper(augmentations=[], image_format="BGR", is_train=True, windows=some)
    for _ in range(40):
        sample = mapper(record)
        pixels = sample["image"][0].float()
        assert len(sample["instances"]) >= 1
        for x1, y1, x2, y2 in sample["instances"].gt_boxes.tensor.round().int().tolist():
            inside, grown = pixels[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1], pixels.clone()
            assert inside.numel() == 0 or inside.mean() > 200
            grown[max(0, y1 - 1) : y2 + 1, max(0, x1 - 1) : x2 + 1] = 0
            pixels = grown
        for x1, y1, x2, y2 in sample["ignore_boxes"].round().int().tolist():
            pixels[max(0, y1 - 1) : y2 + 1, max(0, x1 - 1) : x2 + 1] = 0
        assert pixels.mean() < 2, "nothing bright is left outside of the boxes"


def test_objects_of_which_little_is_visible_and_crowds_are_ignored(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((100, 100, 3), np.uint8))
    boxes = [[0, 0, 20, 20], [45, 0, 65, 20], [45, 30, 55, 40], [0, 30, 20, 50]]
    annotations = [
        {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": i, "iscrowd": int(i == 3)}
        for i, box in enumerate(boxes)
    ]
    record = {"file_name": str(tmp_path / "a.png"), "height": 100, "width": 100, "annotations": annotations}
    some = windows(tile=50)
    monkeypatch.setattr(some, "draw", lambda *_: Window(0, 0, 50, 50, 100, 100))
    mapper = RetinaMapper(augmentations=[], image_format="BGR", is_train=True, windows=some)
    sample = mapper(record)
    # visible: all of the first, 5 of 20 columns of the second, which is a quarter, 5 of 10 of the third
    assert sample["instances"].gt_classes.tolist() == [0, 1, 2]
    assert sample["instances"].gt_boxes.tensor.tolist() == [[0, 0, 40, 40], [90, 0, 100, 40], [90, 60, 100, 80]]
    assert sample["ignore_boxes"].tolist() == [[0, 60, 40, 100]]
    annotations[1]["bbox"] = [46, 0, 66, 20]
    sample = mapper(record)
    assert sample["instances"].gt_classes.tolist() == [0, 2]
    assert sorted(sample["ignore_boxes"].tolist()) == [[0, 60, 40, 100], [92, 0, 100, 40]]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["INPUT.SCALE_JITTER", (2.0,)], "(low, high)"),
        (["INPUT.SCALE_JITTER", (2.0, 0.5)], "ascending"),
        (["INPUT.SCALE_JITTER", (0.5, 2.0), "INPUT.CROP.ENABLED", True], "INPUT.CROP"),
        (["INPUT.TILES.SIZE", 100, "INPUT.MAPPER", "detectron2"], "no effect"),
    ],
)
def test_contradictions_are_refused(keys, message):
    with pytest.raises(ValueError, match="INPUT") as error:
        load_config(BASE, [*TINY, *keys])
    assert message in str(error.value)


def test_evaluation_has_no_windows():
    cfg = load_config(BASE, [*TINY, "INPUT.TILES.SIZE", 100])
    assert retina_mapper(cfg, is_train=False).windows is None
    assert retina_mapper(cfg, is_train=True).windows.tile == 100
