"""The former name still works."""

from retina_plugin.data.detect import detect_dataset
from retina_plugin.data.discover import discover


def test_the_former_name_means_the_same_function():
    assert detect_dataset is discover
