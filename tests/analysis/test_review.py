"""Candidates for mistakes: each kind on its own, none on correct annotations, the order of suspicion."""

import pytest
from planted import scene

from retina_plugin.analysis.review import KINDS, find_candidates


def usual(count=30):
    """Images with one object of each class that is detected well: IoU 18 / 20 = 0.9."""
    objects = [(20 + 100 * k, 20, 20, 20, k) for k in range(3)]
    return [(objects, [(x, y, 18, h, k, 0.8) for x, y, _, h, k in objects])] * count


def only(image):
    """The candidates of one more image among usual ones, which have none."""
    found = find_candidates(scene([*usual(), image]))
    assert {x.image for x in found} <= {31}
    return found


def test_correct_annotations_have_no_candidates():
    assert find_candidates(scene(usual())) == []


def test_a_detection_without_an_annotation_is_a_missing_one():
    (one,) = only(([], [(50, 50, 20, 20, 1, 0.8)]))
    assert (one.kind, one.annotation, one.box, one.label) == ("missing", None, (50, 50, 20, 20), 1)
    # 30 of 31 detections of this score are right.
    assert one.suspicion == pytest.approx(30 / 31)


def test_of_several_classes_at_one_place_the_most_probable_is_missing():
    found = only(([], [(50, 50, 20, 20, 1, 0.8), (51, 50, 20, 20, 2, 0.3)]))
    assert [(x.kind, x.label) for x in found] == [("missing", 1)]


def test_a_different_class_at_the_same_place():
    (one,) = only(([(50, 50, 20, 20, 0)], [(50, 50, 20, 18, 2, 0.8)]))
    assert (one.kind, one.annotation, one.label) == ("class", 91, 2)
    assert one.suspicion == pytest.approx(30 / 31)


def test_a_weaker_different_class_is_no_candidate():
    assert only(([(50, 50, 20, 20, 0)], [(50, 50, 20, 18, 0, 0.8), (50, 50, 20, 18, 2, 0.3)])) == []


def test_a_moved_box_goes_with_the_detection_next_to_it():
    # Moved by half of its width: IoU 10 / 30.
    (one,) = only(([(60, 50, 20, 20, 1)], [(50, 50, 20, 20, 1, 0.8)]))
    assert (one.kind, one.annotation, one.box) == ("box", 91, (50, 50, 20, 20))
    assert one.suspicion == pytest.approx(30 / 31), "an IoU below half of the usual 0.9 is certainly off"


def test_a_box_of_double_size_is_less_suspicious_than_a_moved_one():
    # IoU 20 / 40 = 0.5, between 0.45 (certainly off) and 0.9 (usual).
    (one,) = only(([(50, 50, 40, 20, 1)], [(50, 50, 20, 20, 1, 0.8)]))
    assert one.kind == "box" and 0.7 < one.suspicion < 30 / 31


def test_of_two_annotations_of_one_object_the_one_that_fits_less_is_the_duplicate():
    found = only(([(52, 50, 20, 20, 1), (50, 50, 20, 20, 1)], [(50, 50, 20, 20, 1, 0.8)]))
    assert [(x.kind, x.annotation, x.box) for x in found] == [("duplicate", 91, None)]
    assert found[0].suspicion == pytest.approx(18 / 22), "their IoU"


def test_two_objects_close_to_each_other_are_no_duplicates():
    # Annotations with IoU 16 / 24 = 0.67, and a detection of each.
    found = only(([(50, 50, 20, 20, 1), (54, 50, 20, 20, 1)], [(49, 50, 20, 20, 1, 0.8), (55, 50, 20, 20, 1, 0.8)]))
    assert all(x.kind != "duplicate" or x.suspicion < 0.05 for x in found)


def test_detections_in_a_crowd_are_no_candidates():
    assert only(([(40, 40, 100, 100, 1, "crowd")], [(50, 50, 20, 20, 1, 0.8)])) == []


def test_the_most_suspicious_come_first_and_the_order_of_images_does_not_matter():
    wrong = [([], [(50, 50, 20, 20, 1, 0.9)]), ([(60, 50, 20, 20, 1)], [(50, 50, 20, 20, 1, 0.8)])]
    one, other = find_candidates(scene([*usual(), *wrong])), find_candidates(scene([*usual(), *wrong[::-1]]))
    assert [x.suspicion for x in one] == sorted((x.suspicion for x in one), reverse=True)
    assert {(x.kind, x.suspicion) for x in one} == {(x.kind, x.suspicion) for x in other}


@pytest.mark.parametrize(
    "images",
    [
        [([], [])],
        [([(0, 0, 20, 20, 0)], [])],
        [([], [(0, 0, 20, 20, 0, 0.5)])],
        [([(0, 0, 0.01, 20, 0)], [(0, 0, 0, 0, 0, 0.5)])],
    ],
)
def test_nothing_and_boxes_without_area(images):
    assert all(x.kind in KINDS and 0 <= x.suspicion <= 1 for x in find_candidates(scene(images)))
