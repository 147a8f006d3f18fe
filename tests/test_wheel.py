"""The wheel does what a checkout does."""

import os
import subprocess
import sys
import zipfile

import pytest
from support import ROOT, SMALL

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel, from a copy: a build leaves files in the folder of its source."""
    folder = tmp_path_factory.mktemp("wheel")
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder), "."]
    subprocess.run(command, cwd=folder / "source", check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install it where nothing of the checkout is found; return a function that runs Python in another folder."""
    target, elsewhere = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True)

    def run(*words):
        """Run Python with the installed package."""
        env = {**os.environ, "PYTHONPATH": str(target), "PYTHONWARNINGS": "ignore"}
        return subprocess.run([sys.executable, *words], cwd=elsewhere, env=env, capture_output=True, text=True)

    run.folder, run.target = elsewhere, target
    return run


def test_it_holds_configs_cards_and_the_licence_and_no_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    configs = {str(file.relative_to(ROOT)) for file in (ROOT / "configs").rglob("*") if file.suffix in (".yaml", ".py")}
    shipped = {name.removeprefix("retina_plugin/shipped/") for name in names if "/shipped/" in name}
    cards = {
        f"datasets/{name}"
        for name in ("README.md", "bccd.yaml", "bccd_voc.yaml", "digits.yaml", "digits_dense.yaml", "digits_few.yaml")
    }
    assert shipped == configs | cards
    assert "retina_plugin/py.typed" in names and any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "tools", "configs", "datasets", "output"))]


def test_the_doctor_finds_it_healthy(installed):
    result = installed("-m", "retina_plugin", "doctor")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{installed.target}" in result.stdout and "configs and cards      OK" in result.stdout


def test_configs_load_by_the_name_that_they_have_in_a_checkout(installed):
    program = """
import retina_plugin
print(retina_plugin.load_config("configs/digits/quickstart.yaml", ["MODEL.DEVICE", "cpu"]).DATASETS.TRAIN)
"""
    result = installed("-c", program)
    assert result.stdout.strip().endswith("('digits_train',)"), result.stderr
    result = installed("-m", "retina_plugin", "ablate", "configs/ablations/table_1b.yaml", "--list")
    assert result.returncode == 0 and result.stdout.count("gamma=") == 14, result.stderr


def test_it_makes_the_bundled_data_here_checks_it_and_trains(installed):
    """The digits are written to datasets/ of the working directory, never into the installation."""
    program = "from retina_plugin.data.digits import generate_digits as generate\n"
    program += "generate('datasets/digits', splits={'train': 4, 'val': 2})"
    assert installed("-c", program).returncode == 0
    result = installed("-m", "retina_plugin", "data", "check", "digits")
    assert result.returncode == 0 and "0 errors" in result.stdout, result.stdout + result.stderr
    options = [
        *map(str, SMALL),
        "SOLVER.MAX_ITER",
        "2",
        "TEST.EVAL_PERIOD",
        "0",
        "MODEL.WEIGHTS",
        "",
        "OUTPUT_DIR",
        "run",
    ]
    words = ["train", "--config-file", "configs/Base-RetinaNet.yaml", "DATASETS.TRAIN", "('digits_train',)"]
    result = installed("-m", "retina_plugin", *words, "DATASETS.TEST", "('digits_val',)", *options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (installed.folder / "run/model_final.pth").is_file()
    assert not list(installed.target.rglob("*.png"))
    result = installed(
        "-m", "retina_plugin", "train", "--data", "datasets/digits", "--config-file", "configs/none.yaml"
    )
    assert result.returncode == 2 and "configs/none.yaml" in result.stderr
