"""The doctor, on a healthy machine and on sick ones."""

import subprocess
import sys

import pytest
from conftest import ROOT

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


@pytest.mark.parametrize(
    "missing, mend",
    [("detectron2", "make setup"), ("cv2", "pip install opencv-python"), ("torch", "pip install torch==")],
)
def test_where_something_is_missing_it_still_runs_and_says_how_to_mend_it(missing, mend):
    program = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['retina', 'doctor']; from retina_plugin.cli.main import main; sys.exit(main())"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1, result.stderr
    assert "FAILS" in result.stdout and mend in result.stdout and "Traceback" not in result.stderr


def test_without_detectron2_nothing_but_the_doctor_goes_on():
    program = "import sys; sys.modules['detectron2'] = None; import retina_plugin"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode != 0 and "`python -m retina_plugin doctor` says what to mend" in result.stderr
