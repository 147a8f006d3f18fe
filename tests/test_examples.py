"""examples/my_variant, used from another folder as docs/extending.md says: training, sweeps, predictor, checkpoint."""

import ast
import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
import yaml
from support import ROOT, TINY

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "examples/my_variant"
QUICK = [
    *TINY[:-4],
    "MODEL.WEIGHTS",
    "",
    "DATALOADER.NUM_WORKERS",
    0,
    "SOLVER.REFERENCE_BATCH_SIZE",
    0,
    "TEST.REPORT",
    False,
]
"""A small model."""


def call(*words, cwd, ok=True, **env):
    """A command in a process of its own that has the plugin, and not the example, where Python looks."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env}
    result = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert (result.returncode == 0) is ok, result.stdout + result.stderr
    return result.stdout + result.stderr


def squares(folder):
    """Twelve images with a white square each, and their boxes in the example's own format."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for split, count in (("train", 8), ("val", 4)):
        lines = []
        for i in range(count):
            image, (x, y) = rng.integers(0, 60, (64, 64, 3)).astype(np.uint8), rng.integers(4, 30, 2)
            cv2.rectangle(image, (int(x), int(y)), (int(x) + 24, int(y) + 24), (255, 255, 255), -1)
            cv2.imwrite(str(folder / f"{split}{i}.png"), image)
            lines.append(f"{split}{i}.png square {x} {y} {x + 24} {y + 24}\n")
        (folder / f"{split}.boxes").write_text("".join(lines))


@pytest.fixture(scope="module")
def place(tmp_path_factory, digits_root):
    """A folder elsewhere with the package, a data set of its format, and a config and a sweep that name it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(EXAMPLE / "my_variant", folder / "my_variant", ignore=shutil.ignore_patterns("__pycache__"))
    squares(folder / "squares")
    config = yaml.safe_load((EXAMPLE / "config.yaml").read_text())
    config["_BASE_"] = str(ROOT / "configs/digits/quickstart.yaml")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(EXAMPLE / "sweep.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETINA_ROOT_DIGITS", str(digits_root))
        yield folder


@pytest.fixture(scope="module")
def run(place):
    """A trained run of train_net.py on the data in the example's own format."""
    words = [
        "--data",
        "squares",
        "--config-file",
        "config.yaml",
        "--epochs",
        2,
        "--batch",
        2,
        "--size",
        64,
        "--name",
        "run",
        *QUICK,
        "INPUT.MIN_SIZE_TRAIN",
        "(64,)",
    ]
    said = call(ROOT / "train_net.py", *words, cwd=place)
    assert "squares: boxes_txt" in said and "12 boxes: 12 used" in said
    return place / "output/run"


def test_the_package_is_short():
    """Four variants take less than 60 lines of code, docstrings and comments aside."""
    tree = ast.parse((EXAMPLE / "my_variant/__init__.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    assert len([line for line in ast.unparse(tree).splitlines() if line.strip()]) < 60


def test_train_net_trains_it_and_keeps_its_imports_and_options(run):
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["IMPORTS"] == ["my_variant"] and saved["MODEL"]["CLS_LOSS"]["TEMPERED_TEMPERATURE"] == 0.5
    assert (saved["MODEL"]["FPN"]["NAME"], saved["MODEL"]["RETINANET"]["ASSIGNER"]) == ("average_fpn", "centre")
    info = torch.load(run / "model_final.pth", weights_only=True)["retina_plugin"]
    assert yaml.safe_load(info["config"])["IMPORTS"] == ["my_variant"]


def test_the_command_line_names_it_without_a_config(place):
    words = [
        "--data",
        "squares",
        "--import",
        "my_variant",
        "--epochs",
        2,
        "--batch",
        2,
        "--name",
        "by_import",
        *QUICK,
        "MODEL.RETINANET.CLS_LOSS",
        "tempered",
    ]
    call(ROOT / "train_net.py", *words, cwd=place)
    assert yaml.safe_load((place / "output/by_import/config.yaml").read_text())["IMPORTS"] == ["my_variant"]


def test_its_option_is_checked_and_described(place):
    said = call(
        ROOT / "train_net.py",
        "--config-file",
        "config.yaml",
        "MODEL.CLS_LOSS.TEMPERED_TEMPERATURE",
        "0",
        cwd=place,
        ok=False,
    )
    assert "MODEL.CLS_LOSS.TEMPERED_TEMPERATURE is 0.0; it must be a finite number above 0" in said
    said = call("-m", "retina_plugin", "keys", "TEMPERED", "--import", "my_variant", cwd=place)
    assert "MODEL.CLS_LOSS.TEMPERED_TEMPERATURE = 1.0" in said and "Logits are divided by it." in said


def test_without_the_module_the_error_says_what_to_do(place, run, tmp_path):
    said = call(
        ROOT / "train_net.py",
        "--config-file",
        ROOT / "configs/digits/quickstart.yaml",
        "MODEL.RETINANET.CLS_LOSS",
        "tempered",
        cwd=tmp_path,
        ok=False,
    )
    assert "MODEL.RETINANET.CLS_LOSS is 'tempered'" in said and "IMPORTS in the config, or --import MODULE" in said
    said = call(ROOT / "train_net.py", "--config-file", place / "config.yaml", cwd=tmp_path, ok=False)
    assert "there is no module 'my_variant'" in said and "error:" in said and "Traceback" not in said


PREDICT = """
import numpy as np, sys, retina_plugin
predictor = retina_plugin.load_predictor(sys.argv[1], imports=sys.argv[2] == "yes", device="cpu")
loss, instances = predictor.model.cls_loss, predictor(np.zeros((64, 64, 3), np.uint8))["instances"]
print(type(loss).__name__, loss.temperature, len(instances))
print("my_variant" in sys.modules)
"""


def test_a_checkpoint_is_loaded_with_the_callers_consent_only(place, run, tmp_path):
    said = call("-c", PREDICT, run / "model_final.pth", "yes", cwd=place)
    assert "TemperedFocalLoss 0.5" in said
    said = call("-c", PREDICT, run / "model_final.pth", "no", cwd=place, ok=False)
    assert "needs my_variant" in said and "imports=True, or --import my_variant" in said
    said = call(
        "-c", "import my_variant\n" + PREDICT, run / "model_final.pth", "no", cwd=place
    )  # imported by whoever asks
    assert "TemperedFocalLoss 0.5" in said
    said = call("-c", PREDICT, run / "model_final.pth", "yes", cwd=tmp_path, ok=False)  # the package is not there
    assert "there is no module 'my_variant'" in said


def test_eval_only_and_resume_know_it(place, run):
    said = call(
        ROOT / "train_net.py",
        "--config-file",
        run / "config.yaml",
        "--eval-only",
        "MODEL.WEIGHTS",
        run / "model_final.pth",
        cwd=place,
    )
    assert "AP" in said
    said = call(
        ROOT / "train_net.py",
        "--config-file",
        run / "config.yaml",
        "--resume",
        "OUTPUT_DIR",
        run,
        "SOLVER.MAX_ITER",
        10,
        cwd=place,
    )
    assert "iteration 10 of 10" in said or "10 iterations" in said or "resumed" in said


@pytest.mark.long
@pytest.mark.parametrize("ray", [False, True])
def test_a_sweep_knows_it(place, ray):
    if ray:
        pytest.importorskip("ray")
    output = place / f"sweep_{ray}"
    words = [
        "ablate",
        "sweep.yaml",
        "--output",
        output,
        "--only",
        "tempered 0.5",
        "--set",
        *QUICK,
        "SOLVER.MAX_ITER",
        2,
        "SOLVER.WARMUP_ITERS",
        1,
        "DATASETS.TEST",
        "[digits_val]",
    ]
    call("-m", "retina_plugin", *words, *(["--ray", "--cpus-per-run", "1"] if ray else []), cwd=place)
    table = json.loads((output / "table.json").read_text())
    assert [row["labels"] for row in table["rows"]] == [["focal"], ["tempered 0.5"]]
    assert all(len(row["values"]["AP"]) == 2 and not row["failed"] for row in table["rows"])


def test_a_module_that_only_the_command_line_names_reaches_the_runs_of_a_sweep(place, tmp_path):
    sweep = f"base: {ROOT / 'configs/digits/quickstart.yaml'}\noptions: {{MODEL.RETINANET.CLS_LOSS: tempered}}\n"
    sweep += "axes: {MODEL.CLS_LOSS.TEMPERED_TEMPERATURE: [0.5, 2.0]}\n"
    (place / "by_import.yaml").write_text(sweep)
    words = [
        "--output",
        tmp_path / "out",
        "--import",
        "my_variant",
        "--set",
        *QUICK,
        "SOLVER.MAX_ITER",
        2,
        "SOLVER.WARMUP_ITERS",
        1,
        "INPUT.MIN_SIZE_TRAIN",
        "[64]",
        "INPUT.MIN_SIZE_TEST",
        64,
    ]
    call("-m", "retina_plugin", "ablate", "by_import.yaml", *words, cwd=place)
    assert not any(row["failed"] for row in json.loads((tmp_path / "out/table.json").read_text())["rows"])


def test_an_installed_package_is_found_by_its_entry_point(place, tmp_path):
    """What pip writes: a folder with metadata beside the package."""
    shutil.copytree(place / "my_variant", tmp_path / "site/my_variant")
    (tmp_path / "site/my_variant-0.1.dist-info").mkdir()
    (tmp_path / "site/my_variant-0.1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: my-variant\nVersion: 0.1\n"
    )
    (tmp_path / "site/my_variant-0.1.dist-info/entry_points.txt").write_text(
        "[retina_plugin.plugins]\nmy_variant = my_variant\n"
    )
    words = [
        "-c",
        "import retina_plugin; from retina_plugin.extend import CLS_LOSS_REGISTRY as r; print(r.get('tempered'))",
    ]
    assert "TemperedFocalLoss" in call(*words, cwd=tmp_path, PYTHONPATH=f"{ROOT}:{tmp_path / 'site'}")
    (tmp_path / "site/my_variant/__init__.py").write_text("raise RuntimeError('broken today')")
    said = call("-c", "import retina_plugin; print('goes on')", cwd=tmp_path, PYTHONPATH=f"{ROOT}:{tmp_path / 'site'}")
    assert (
        "goes on" in said and "the plugin my_variant (my_variant) fails to import: RuntimeError: broken today" in said
    )
