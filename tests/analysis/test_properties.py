"""Columns of a table and the brightness of images as properties to slice by."""

import cv2
import numpy as np
import pytest

from retina_plugin.analysis.properties import brightness_of, columns_of

IMAGES = [{"id": i, "file_name": f"/photos/{i}.png"} for i in (1, 2, 3)]


def test_columns_of_numbers_and_of_few_texts_are_properties(tmp_path):
    (tmp_path / "x.csv").write_text(
        "file,weather,altitude,note\na/1.png,sun,10,x\n2.png,rain,20.5,\nother.png,sun,3,y\n3.png,sun,,\n"
    )
    found = columns_of(tmp_path / "x.csv", IMAGES)
    assert found["weather"] == {1: "sun", 2: "rain", 3: "sun"} and found["altitude"] == {1: 10, 2: 20.5}
    assert found["note"] == {1: "x"}


@pytest.mark.parametrize("text", ["", "file\n1.png\n", "file,x\nother.png,1\n"])
def test_a_table_of_other_images_is_refused(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=r"x\.csv"):
        columns_of(tmp_path / "x.csv", IMAGES)


def test_names_are_no_property(tmp_path):
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(30)]
    (tmp_path / "x.csv").write_text("file,name,day\n" + "".join(f"{i}.png,image{i},d{i % 2}\n" for i in range(30)))
    assert set(columns_of(tmp_path / "x.csv", images)) == {"day"}


def test_brightness(tmp_path):
    images = []
    for i, value in enumerate((0, 100, 255)):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((30, 40, 3), value, np.uint8))
        images.append({"id": i, "file_name": str(tmp_path / f"{i}.png")})
    (tmp_path / "broken.png").write_bytes(b"x")
    images += [{"id": 8, "file_name": str(tmp_path / "broken.png")}, {"id": 9, "file_name": "gone.png"}]
    assert brightness_of(images) == {0: 0, 1: 100, 2: 255}
