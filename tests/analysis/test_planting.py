"""Planted mistakes: the right number of each kind, repeatable; a perfect review finds all, an empty one none."""

import copy
from collections import Counter

import numpy as np
import pytest
from planted import scene

from retina_plugin.analysis.planting import judge, plant
from retina_plugin.analysis.review import KINDS, Candidate, overlaps_of


def records(count=100):
    rng = np.random.default_rng(0)
    return [
        {"file_name": f"{i}.png", "width": 400, "height": 300, "annotations": [
            {"bbox": [x, y, x + 40, y + 30], "category_id": int(k), "iscrowd": 0}
            for x, y, k in zip(rng.uniform(0, 360, 4), rng.uniform(0, 270, 4), rng.integers(0, 3, 4), strict=True)
        ]}
        for i in range(count)
    ]  # fmt: skip


def test_each_kind_has_its_share_and_an_annotation_at_most_one():
    before = records()
    kept = copy.deepcopy(before)
    after, planted = plant(before, 3, share=0.05)
    assert Counter(x.kind for x in planted) == dict.fromkeys(KINDS, 20)
    assert len({(x.file, x.true_box) for x in planted}) == 80
    assert before == kept, "the records are not changed"
    assert sum(len(x["annotations"]) for x in after) == 400 - 20 + 20


def test_moved_boxes_are_far_enough_and_inside_duplicates_are_close():
    for x in plant(records(), 3, share=0.1)[1]:
        overlap = overlaps_of(np.array([x.true_box]), np.array([x.box]))[0, 0]
        assert all(0 <= v <= limit for v, limit in zip(x.box, (400, 300, 400, 300), strict=True))
        if x.kind == "box":
            assert 0.24 < overlap < 0.54  # 0.4 / 1.6 and 0.7 / 1.3
        elif x.kind == "duplicate":
            assert 0.6 < overlap < 1


def test_classes_change_unless_there_is_only_one():
    before = records()
    after, _ = plant(before, 3, share=0.05)
    changed = sum(
        a["category_id"] != b["category_id"]
        for x, y in zip(before, after, strict=True)
        for a in x["annotations"]
        for b in y["annotations"]
        if np.array_equal(a["bbox"], b["bbox"])
    )
    assert changed == 20
    assert {x.kind for x in plant(before, 1, share=0.05)[1]} == set(KINDS) - {"class"}


def test_the_same_seed_plants_the_same():
    assert plant(records(), 3, share=0.05)[1] == plant(records(), 3, share=0.05)[1]
    assert plant(records(), 3, share=0.05)[1] != plant(records(), 3, share=0.05, seed=1)[1]


@pytest.mark.parametrize("share", [0, -0.1, 0.3])
def test_a_share_that_does_not_fit_is_refused(share):
    with pytest.raises(ValueError, match="at most 0.25"):
        plant(records(), 3, share=share)


def test_a_review_is_judged_by_the_places_that_it_names():
    detections = scene([([(10, 10, 20, 20, 0), (100, 10, 20, 20, 1)], []), ([(10, 10, 20, 20, 0)], [])])
    from retina_plugin.analysis.planting import Planted

    planted = [
        Planted("class", "0.png", (10, 10, 30, 30), (10, 10, 30, 30)),
        Planted("missing", "0.png", (200, 200, 220, 220), (200, 200, 220, 220)),
        Planted("box", "1.png", (25, 10, 45, 30), (10, 10, 30, 30)),
    ]
    candidates = [
        Candidate("class", 1, 0.9, 1, (10, 10, 20, 20), 1),
        Candidate("class", 1, 0.8, 2, (100, 10, 20, 20), 0),  # not planted
        Candidate("missing", 1, 0.7, None, (201, 200, 20, 20), 1),
        Candidate("missing", 1, 0.6, None, (200, 201, 20, 20), 2),  # the same place again
        Candidate("missing", 2, 0.5, None, (25, 10, 20, 20), 0),  # the right place of a moved box
    ]
    found = judge(candidates, planted, detections)
    assert found.real.tolist() == [True, False, True, False, True]
    assert found.precision(2) == 0.5 and found.recall(2) == pytest.approx(1 / 3) and found.recall(5) == 1
    assert found.by_kind == {"missing": (1, 1, 1), "class": (1, 1, 1), "box": (1, 1, 0), "duplicate": (0, 0, 0)}
    assert judge([], planted, detections).recall(100) == 0
