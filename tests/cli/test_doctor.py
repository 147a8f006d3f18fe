"""The doctor, on a healthy machine and on sick ones."""

import subprocess
import sys

import pytest
from support import ROOT

from retina_plugin.cli import doctor


def test_a_healthy_machine(capsys):
    assert doctor.run(None) == 0
    said = capsys.readouterr().out
    for name in (
        "Python",
        "torch",
        "torchvision",
        "cv2",
        "PIL",
        "numpy",
        "detectron2",
        "detectron2._C",
        "CUDA",
        "bf16",
        "retina_plugin",
    ):
        assert f"\n{name} " in f"\n{said}", name


@pytest.mark.slow
@pytest.mark.parametrize(
    "missing, fix",
    [("detectron2", "make setup"), ("cv2", "pip install opencv-python"), ("torch", "pip install torch==")],
)
def test_where_something_is_missing_it_still_runs_and_says_how_to_fix_it(missing, fix):
    program = f"""
import sys, sysconfig
sys.modules[{missing!r}] = None
sys.argv = [sysconfig.get_path("scripts") + "/retina", "doctor"]
from retina_plugin.cli.main import main
sys.exit(main())
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1, result.stderr
    assert "FAILS" in result.stdout and fix in result.stdout and "Traceback" not in result.stderr


def test_without_detectron2_nothing_but_the_doctor_goes_on():
    program = "import sys; sys.modules['detectron2'] = None; import retina_plugin"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode != 0 and "`retina doctor` names the command that fixes it" in result.stderr


def test_an_installation_without_its_configs_is_reported(tmp_path, monkeypatch, capsys):
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr("retina_plugin.paths.PACKAGE", tmp_path)
    assert doctor.run(None) == 1
    assert "configs and cards      FAILS" in capsys.readouterr().out
