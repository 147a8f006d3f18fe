"""Runs of a sweep: once each, resumed, failed, in parallel, killed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, SMALL

from retina_plugin.ablation import collect, load_sweep, run_sweep
from retina_plugin.ablation.runner import on_ray, progress_line

OPTIONS = dict(zip(SMALL[0::2], SMALL[1::2], strict=True)) | {
    "SOLVER.MAX_ITER": 6, "SOLVER.WARMUP_ITERS": 2, "SOLVER.CHECKPOINT_PERIOD": 2, "INPUT.MIN_SIZE_TRAIN": [64], "INPUT.MIN_SIZE_TEST": 64,
    "MODEL.WEIGHTS": "", "MODEL.BOTTOM_UP.NAME": "build_retina_resnet",
}  # fmt: skip
AXES = """
axes:
  loss:
    focal: {}
    ohem: {MODEL.RETINANET.CLS_LOSS: ohem}
    broken: {MODEL.WEIGHTS: nowhere.pth}
"""


@pytest.fixture()
def sweep(tmp_path, small_digits):
    (tmp_path / "mine.yaml").write_text(f"base: {ROOT / 'configs/ablations/digits.yaml'}\nseeds: [1]\noptions: {json.dumps(OPTIONS)}\n{AXES}")
    return load_sweep(tmp_path / "mine.yaml")


def test_runs_end_once_failures_are_shown_and_another_config_is_refused(sweep, tmp_path, capsys):
    folders = run_sweep(sweep, tmp_path / "out")
    said = capsys.readouterr().err
    assert "2 of 3 done" in said and "1 failed (loss=broken,seed=1)" in said
    found = collect(sweep, folders)
    assert "nowhere.pth" in found.rows[2].failed[1]
    assert [len(row.values["AP"]) for row in found.rows] == [1, 1, 0]
    assert found.rows[0].parameters > 1e6 and found.rows[0].peak_memory_mib > 100

    written = [(folder / "summary.json").stat().st_mtime_ns for folder in folders[:2]]
    run_sweep(sweep, tmp_path / "out")
    assert [(folder / "summary.json").stat().st_mtime_ns for folder in folders[:2]] == written, "what is finished stays"

    sweep.options["SOLVER.BASE_LR"] = 0.5
    with pytest.raises(ValueError, match=r"(?s)loss=focal,seed=1: SOLVER.BASE_LR 0.001 -> 0.5.*loss=ohem"):
        run_sweep(sweep, tmp_path / "out")


def wait_for(condition, seconds=120):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end
        time.sleep(0.05)


def test_killed_half_way_it_goes_on_and_gives_the_same_table(sweep, tmp_path):
    del sweep.axes["loss"]["broken"]
    undisturbed = collect(sweep, run_sweep(sweep, tmp_path / "undisturbed"))
    program = (
        "import sys; from retina_plugin.ablation import load_sweep, run_sweep\n"
        "sweep = load_sweep(sys.argv[1]); del sweep.axes['loss']['broken']; run_sweep(sweep, sys.argv[2])"
    )
    process = subprocess.Popen([sys.executable, "-c", program, sweep.file, tmp_path / "killed"], cwd=ROOT)
    first, second = (tmp_path / "killed" / name for name in ("loss=focal,seed=1", "loss=ohem,seed=1"))
    wait_for((second / "model_0000003.pth").exists)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (first / "summary.json").exists() and not (second / "summary.json").exists()
    finished = (first / "summary.json").read_bytes()

    again = collect(sweep, run_sweep(sweep, tmp_path / "killed"))
    assert (first / "summary.json").read_bytes() == finished
    assert "resumed at iteration" in (second / "log.txt").read_text()
    assert [row.values for row in again.rows] == [row.values for row in undisturbed.rows]


def test_two_at_once_through_ray(sweep, tmp_path):
    pytest.importorskip("ray")
    folders = run_sweep(sweep, tmp_path / "out", executor=on_ray(cpus_per_run=1, gpus_per_run=0))
    assert [folder.name for folder in folders if (folder / "summary.json").exists()] == ["loss=focal,seed=1", "loss=ohem,seed=1"]
    assert "nowhere.pth" in (folders[2] / "failed.txt").read_text()


def test_a_second_sweep_in_the_same_folder_is_refused(sweep, tmp_path):
    def second_sweep(folders):
        with pytest.raises(RuntimeError, match="another process is at work in"):
            run_sweep(sweep, tmp_path, executor=lambda folders: None)

    run_sweep(sweep, tmp_path, executor=second_sweep)


def test_the_progress_line(tmp_path):
    folders = [tmp_path / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
    (folders[0] / "summary.json").touch()
    (folders[1] / "failed.txt").touch()
    (folders[2] / "running").touch()
    (folders[2] / "metrics.json").write_text('{"iteration": 9}\n{"iteration": 19}\n')
    (folders[2] / "config.yaml").write_text("SOLVER: {MAX_ITER: 40}")
    # One done, one failed and half of one in 240 s: 96 s each, and one and a half are left.
    line = progress_line("mine", folders, begin=time.time() - 240, done_before=0)
    assert line == "mine: 1 of 4 done, running c (50 %), 1 failed (b); ETA 2 min"


def test_a_worker_without_its_sweep_ends(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "plan.json").write_text("{}")
    code = subprocess.run([sys.executable, "-m", "retina_plugin.ablation.worker", tmp_path, str(gone.pid)], cwd=ROOT, capture_output=True).returncode
    assert code == 1 and os.listdir(tmp_path) == ["plan.json"]
