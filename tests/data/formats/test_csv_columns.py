"""Headers of tables; reading whole files is tested in test_csv.py."""

import pytest

from retina_plugin.data.formats.csv_columns import columns_of


@pytest.mark.parametrize(
    ("header", "box"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "corners"),
        ("image_path,xmin,ymin,xmax,ymax,label", "corners"),
        ("a.jpg,1,2,3,4,cat", "corners"),
        ("filename,x,y,width,height,label", "size"),
        ("image_id,width,height,bbox,source", "list"),
        ("filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes", "via"),
    ],
)
def test_known_headers(header, box):
    columns = columns_of(header.split(","))
    assert columns.box == box and "file" in columns.where


def test_name_is_the_image_if_another_column_is_the_class():
    assert columns_of(["name", "x1", "y1", "x2", "y2", "label"]).where["file"] == 0
    assert "none is the image" in columns_of(["name", "x1", "y1", "x2", "y2"])


@pytest.mark.parametrize("header", ["epoch,loss,accuracy", "name,age"])
def test_other_tables_are_not_tables_of_boxes(header):
    assert columns_of(header.split(",")) is None
