"""Rules about the model: what each chooses for facts with a known answer."""

import pytest
from drafts import draft, record

from retina_plugin.plan import model_rules


def test_anchors_follow_the_objects():
    # At 320 px, objects of 12 px are 8 px: the smallest anchor, of 32 px, has an IoU of 1/16 with them.
    some = [record([x, 100, x + 12, 112]) for x in range(0, 600, 20)]
    choice = model_rules.anchors(draft(*some))
    assert choice.settings["MODEL.ANCHOR_GENERATOR.SCALE"] < 2 and choice.settings["MODEL.RETINANET.LEVELS"][0] == 3
    assert "with those of the base it is 0.0 %" in choice.why
    # A few objects that nobody would recognise change nothing: the others, of 20 px, keep their anchors.
    most = [record([x, 100, x + 30, 130], [x, 300, x + 200, 500]) for x in range(0, 400, 20)]
    alone = model_rules.anchors(draft(*most))
    choice = model_rules.anchors(draft(*most, *some[:10]))
    assert (choice and choice.settings) == (alone and alone.settings)
    wide, tall = [100, 100, 183, 128], [100, 100, 128, 183]  # 32 px at 320 px, too long for one shape
    assert model_rules.anchors(draft(record(wide, tall))) is None


def test_anchors_of_tiles_are_those_of_their_resolution():
    tiles = {"TEST.TILES.SIZE": 160, "INPUT.MIN_SIZE_TRAIN": [320]}
    some = [record([x, 100, x + 27, 109], [x, 100, x + 9, 127]) for x in range(0, 570, 20)]
    assert model_rules.anchors(draft(*some, keys=tiles)) is None, "16 px are 32 px in a tile"


@pytest.mark.parametrize(("most", "want"), [(100, None), (101, 200), (200, 300), (1000, 1500)])
def test_detections(most, want):
    choice = model_rules.detections(draft(most=most))
    assert (choice.settings["TEST.DETECTIONS_PER_IMAGE"] if choice else None) == want


def test_anchors_fit_turned_objects_as_well():
    some = [record([x, 100, x + 60, 110]) for x in range(0, 500, 20)]
    upright, turned = (
        model_rules.anchors(draft(*some, keys={"INPUT.ROTATE_90": flag})).settings for flag in (False, True)
    )
    ratios = turned["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"][0]
    assert max(upright["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"][0]) < 1 and min(ratios) < 0.5 < 2 < max(ratios)


def test_of_many_objects_a_part_is_compared(monkeypatch):
    seen = []
    original = model_rules.ground_truth
    monkeypatch.setattr(
        model_rules, "ground_truth", lambda some, **sizes: seen.append(len(some)) or original(some, **sizes)
    )
    some = [record([x, 100, x + 12, 112]) for x in range(0, 600, 6)]
    model_rules.anchors(draft(*some, objects=3 * model_rules.MOST_COMPARED))
    assert seen == [25], "every fourth of 100 images"


def test_objects_of_one_shape_get_anchors_of_one_shape():
    some = [record([100, 100, 100 + side, 100 + 1.4 * side]) for side in range(48, 140, 4)]
    choice = model_rules.anchors(draft(*some))
    assert choice.settings["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"] == [[1.4]]
    assert choice.settings["MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE"] == 3 and choice.cost.startswith("0.33 times")


def test_images_without_objects_keep_the_anchors():
    assert model_rules.anchors(draft(record())) is None


def test_the_head_learns_distributions_and_quality():
    choice = model_rules.losses(draft())
    assert choice.settings["MODEL.RETINANET.HEAD_NAME"] == choice.settings["MODEL.RETINANET.BBOX_REG_LOSS_TYPE"]


def test_duplicates_are_lowered_not_dropped():
    choice = model_rules.suppression(draft(crowded=0.04))
    assert choice.settings == {"MODEL.RETINANET.SOFT_NMS": "gaussian"} and choice.why.startswith("4 % of the objects")
