"""Files that come with the package, and what process this is."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from retina_plugin import paths
from retina_plugin.paths import data_folder, shipped


def test_in_a_checkout_the_top_level_folders_are_used():
    assert shipped("configs/finetune.yaml") == ROOT / "configs/finetune.yaml"
    assert data_folder(ROOT / "datasets/digits.yaml") == ROOT / "datasets"
    with pytest.raises(FileNotFoundError, match="install it again"):
        shipped("configs/gone.yaml")


def test_in_an_installation_those_of_the_package_are_used_and_data_is_kept_out_of_it(tmp_path, monkeypatch):
    (tmp_path / "shipped/datasets").mkdir(parents=True)
    (tmp_path / "shipped/datasets/digits.yaml").touch()
    monkeypatch.setattr(paths, "PACKAGE", tmp_path)
    assert shipped("datasets/digits.yaml") == tmp_path / "shipped/datasets/digits.yaml"
    assert data_folder(shipped("datasets/digits.yaml")) == Path("datasets")
    assert data_folder(Path("/data/cards/pets.yaml")) == Path("/data/cards")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, lines, filled",
    [
        ("retina", "import retina_plugin", True),  # another program of that name
        ("script.py", "import retina_plugin", True),
        (
            "retina",
            "import sysconfig, sys; sys.argv[0] = sysconfig.get_path('scripts') + '/retina'; import retina_plugin",
            False,
        ),
    ],
)
def test_only_the_command_itself_imports_the_package_without_its_parts(name, lines, filled, tmp_path):
    """Another program must never get registries that are half full."""
    (tmp_path / name).write_text(
        f"{lines}\nimport sys\nprint('torch' in sys.modules)\nprint(callable(retina_plugin.load_config))\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(tmp_path / name), "doctor"], capture_output=True, text=True
    )
    assert result.stdout.split() == [str(filled), "True"], result.stderr
