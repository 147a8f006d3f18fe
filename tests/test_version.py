"""The version has one home."""

from importlib.metadata import version

import retina_plugin
from retina_plugin.version import __version__


def test_the_package_and_its_metadata_have_the_version():
    assert retina_plugin.__version__ == __version__ == version("retina-plugin")
