"""Headers of the files people have; reading itself is tested in test_csv.py."""

import pytest

from retina_plugin.data.formats.csv_columns import columns_of


@pytest.mark.parametrize(
    "header, box",
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


@pytest.mark.parametrize("header", ["epoch,loss,accuracy", "name,age"])
def test_tables_of_something_else_are_not_of_boxes(header):
    assert columns_of(header.split(",")) is None
