"""Sizes that annotations state against those of the image files."""

import numpy as np

from retina_plugin.data.formats.image_sizes import resolve_sizes, same_shape
from retina_plugin.data.image_headers import ImageHeader
from retina_plugin.data.problems import Kind


def test_sizes_are_those_of_the_files():
    """One image as stated, one twice as large, one rotated, one unreadable, one without a stated size."""
    stated = [(10, 20), (10, 20), (10, 20), (10, 20), (None, None)]
    actual = [(10, 20), (20, 40), (20, 10), None, (7, 9)]
    records = [
        {"file_name": f"{i}.png", "image_id": i, "height": height, "width": width}
        for i, (height, width) in enumerate(stated)
    ]
    asked = []

    def look(files, needed):
        asked.extend(needed)
        return [ImageHeader(*size, 1, "PNG", 3, 8) if size else "cannot be read" for size in actual]

    found = resolve_sizes(records, [1, 2, 3, 4, 5], look)
    assert asked == [False, False, False, False, True] and found.unstated == 1
    nothing = [np.nan, np.nan]
    np.testing.assert_array_equal(found.sizes, [[10, 20], [20, 40], nothing, nothing, [7, 9]])
    np.testing.assert_array_equal(found.scales, [[1, 1], [2, 2], [1, 1], [1, 1], [1, 1]])
    problems = [(problem.kind, problem.image, problem.boxes, problem.images) for problem in found.problems]
    assert problems == [(Kind.SCALED, 1, 0, 0), (Kind.SIZE, 2, 3, 1), (Kind.IMAGE, 3, 4, 1)]


def test_a_file_that_was_not_opened_has_the_stated_size():
    records = [{"file_name": "a.png", "image_id": 1, "height": 10, "width": 20}]
    found = resolve_sizes(records, [1], lambda files, needed: [None])
    assert found.sizes.tolist() == [[10, 20]] and found.problems == []


def test_same_shape_allows_a_pixel_of_rounding():
    assert same_shape((427, 640), (213, 320)) is not None and same_shape((427, 640), (214, 320)) is not None
    assert same_shape((427, 640), (230, 320)) is None
