"""Runs of a sweep: each once, resumed, failed, in parallel, killed."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from support import ROOT, SMALL

from retina_plugin.ablation import collect, load_sweep, run_sweep
from retina_plugin.ablation.runner import on_ray, progress_line
from retina_plugin.config import dump_config

OPTIONS = dict(zip(SMALL[0::2], SMALL[1::2], strict=True)) | {
    "SOLVER.MAX_ITER": 6, "SOLVER.WARMUP_ITERS": 2, "SOLVER.CHECKPOINT_PERIOD": 2,
    "INPUT.MIN_SIZE_TRAIN": [64], "INPUT.MIN_SIZE_TEST": 64,
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
    base = ROOT / "configs/ablations/digits.yaml"
    (tmp_path / "mine.yaml").write_text(f"base: {base}\nseeds: [1]\noptions: {json.dumps(OPTIONS)}\n{AXES}")
    return load_sweep(tmp_path / "mine.yaml")


@pytest.mark.long
def test_finished_runs_stay_failures_are_shown_other_configs_refused(sweep, tmp_path, capsys):
    folders = run_sweep(sweep, tmp_path / "out")
    progress = capsys.readouterr().err
    assert "2 of 3 done" in progress and "1 failed (loss=broken,seed=1)" in progress
    found = collect(sweep, folders)
    assert "nowhere.pth" in found.rows[2].failed[1]
    assert [len(row.values["AP"]) for row in found.rows] == [1, 1, 0]
    assert found.rows[0].parameters > 1e6 and found.rows[0].peak_memory_mib > 100

    written = [(folder / "summary.json").stat().st_mtime_ns for folder in folders[:2]]
    run_sweep(sweep, tmp_path / "out")
    now = [(folder / "summary.json").stat().st_mtime_ns for folder in folders[:2]]
    assert now == written, "finished runs are not repeated"

    sweep.options["SOLVER.BASE_LR"] = 0.5
    with pytest.raises(ValueError, match=r"(?s)loss=focal,seed=1: SOLVER.BASE_LR 0.001 -> 0.5.*loss=ohem"):
        run_sweep(sweep, tmp_path / "out")


def wait_for(condition, seconds=120):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end
        time.sleep(0.05)


@pytest.mark.long
def test_killed_sweep_continues_and_ends_with_the_same_table(sweep, tmp_path):
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


@pytest.mark.long
def test_two_at_once_through_ray(sweep, tmp_path):
    pytest.importorskip("ray")
    folders = run_sweep(sweep, tmp_path / "out", executor=on_ray(cpus_per_run=1, gpus_per_run=0))
    finished = [folder.name for folder in folders if (folder / "summary.json").exists()]
    assert finished == ["loss=focal,seed=1", "loss=ohem,seed=1"]
    assert "nowhere.pth" in (folders[2] / "failed.txt").read_text()


def test_second_sweep_in_the_same_folder_is_refused(sweep, tmp_path):
    def second_sweep(folders):
        with pytest.raises(RuntimeError, match="a different process is running in"):
            run_sweep(sweep, tmp_path, executor=lambda folders: None)

    run_sweep(sweep, tmp_path, executor=second_sweep)


def test_progress_line(tmp_path):
    folders = [tmp_path / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
    (folders[0] / "summary.json").touch()
    (folders[1] / "failed.txt").touch()
    (folders[2] / "running").touch()
    (folders[2] / "metrics.json").write_text('{"iteration": 9}\n{"iteration": 19}\n')
    (folders[2] / "config.yaml").write_text("SOLVER: {MAX_ITER: 40}")
    # One done, one failed and half of one in 240 s: 96 s each; one and a half are left.
    line = progress_line("mine", folders, begin=time.time() - 240, done_before=0)
    assert line == "mine: 1 of 4 done, running c (50 %), 1 failed (b); ETA 2 min"


@pytest.mark.slow
def test_worker_ends_without_its_sweep(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "plan.json").write_text("{}")
    command = [sys.executable, "-m", "retina_plugin.ablation.worker", tmp_path, str(gone.pid)]
    code = subprocess.run(command, cwd=ROOT, capture_output=True).returncode
    assert code == 1 and os.listdir(tmp_path) == ["plan.json"]


def finishing(ap, seen):
    """Return an executor that trains nothing: it adds the name of every run to ``seen``, and gives it this AP."""

    def execute(folders):
        for folder in folders:
            seen.append(folder.name)
            cost = {"images_per_second": 1.0, "peak_memory_mib": 1.0, "parameters": 1, "machine": "m", "precision": "p"}
            results = {"bbox": {"AP": ap, "AP50": ap, "AP75": ap}}
            (folder / "summary.json").write_text(json.dumps({"results": results, **cost}))
            planned = folder / "as_planned.yaml"
            (folder / "config.yaml").write_text(planned.read_text() if planned.exists() else "")

    return execute


def record_configs(sweep, output):
    """Write the config of every run, as a worker does when it starts."""
    for run in sweep.runs:
        folder = output / run.name(tuple(sweep.axes))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "as_planned.yaml").write_text(dump_config(sweep.config(run, folder)))


def test_only_seeds_that_were_added_later_run(sweep, tmp_path):
    del sweep.axes["loss"]["broken"]
    seen = []
    record_configs(sweep, tmp_path / "out")
    run_sweep(sweep, tmp_path / "out", executor=finishing(40.0, seen))
    assert seen == ["loss=focal,seed=1", "loss=ohem,seed=1"]
    more = dataclasses.replace(sweep, seeds=(1, 2, 3))
    record_configs(more, tmp_path / "out")
    found = collect(more, run_sweep(more, tmp_path / "out", executor=finishing(42.0, seen)))
    assert seen[2:] == ["loss=focal,seed=2", "loss=ohem,seed=2", "loss=focal,seed=3", "loss=ohem,seed=3"]
    assert found.rows[0].values["AP"] == [40.0, 42.0, 42.0]


def test_base_config_that_changed_is_refused_before_anything_runs(sweep, tmp_path):
    del sweep.axes["loss"]["broken"]
    base = tmp_path / "base.yaml"
    base.write_text(f"_BASE_: {sweep.base}\n")
    sweep, seen = dataclasses.replace(sweep, base=base), []
    record_configs(sweep, tmp_path / "out")
    run_sweep(sweep, tmp_path / "out", executor=finishing(40.0, seen))
    base.write_text(f"_BASE_: {ROOT / 'configs/ablations/digits.yaml'}\nINPUT: {{COLOR_JITTER: 0.25}}\n")
    message = r"(?s)runs of a different config.*loss=focal,seed=1: INPUT.COLOR_JITTER 0.0 -> 0.25"
    with pytest.raises(ValueError, match=message):
        run_sweep(sweep, tmp_path / "out", executor=finishing(41.0, seen))
    assert len(seen) == 2


def test_keys_added_by_a_newer_version_are_no_difference(sweep, tmp_path):
    """The config of a run of an older version does not have them."""
    del sweep.axes["loss"]["broken"]
    seen = []
    record_configs(sweep, tmp_path / "out")
    folders = run_sweep(sweep, tmp_path / "out", executor=finishing(40.0, seen))
    for folder in folders:
        data = yaml.safe_load((folder / "config.yaml").read_text())
        del data["SOLVER"]["LAYER_DECAY"], data["IMPORTS"], data["TEST"]["SIZES"]
        (folder / "config.yaml").write_text(yaml.safe_dump(data))
    run_sweep(sweep, tmp_path / "out", executor=finishing(41.0, seen))
    assert len(seen) == 2


def test_failing_run_stops_no_other_run_and_is_tried_again(sweep, tmp_path):
    losses = {name: sweep.axes["loss"][name] for name in ("focal", "broken", "ohem")}
    sweep = dataclasses.replace(sweep, axes={"loss": losses})
    output = tmp_path / "out"
    record_configs(sweep, output)
    seen = []

    def execute(folders):
        for folder in folders:
            if "broken" in folder.name:
                seen.append(folder.name)
                (folder / "failed.txt").write_text("exit code 2: error: no")
            else:
                finishing(40.0, seen)([folder])

    found = collect(sweep, run_sweep(sweep, output, executor=execute))
    assert [bool(row.failed) for row in found.rows] == [False, True, False]
    assert "| broken | failed |" in found.markdown()
    run_sweep(sweep, output, executor=execute)
    assert seen == ["loss=focal,seed=1", "loss=broken,seed=1", "loss=ohem,seed=1", "loss=broken,seed=1"]


def test_spaces_unicode_and_markdown_in_labels(sweep, tmp_path):
    axes = {"größe | α": {"klein *und* | fein": {}, "日本 語": {"MODEL.RETINANET.CLS_LOSS": "ohem"}}}
    sweep, output = dataclasses.replace(sweep, axes=axes, compare_to=("klein *und* | fein",)), tmp_path / "ein Ordner"
    record_configs(sweep, output)
    folders = run_sweep(sweep, output, executor=finishing(40.0, []))
    assert [folder.name for folder in folders] == ["größe_α=klein_und_fein,seed=1", "größe_α=日本_語,seed=1"]
    text = collect(sweep, folders).markdown()
    header, rule, first, second = text.splitlines()[:4]
    cells = [len(line.replace(r"\|", "").split("|")) for line in (header, rule, first, second)]
    assert len(set(cells)) == 1 and r"klein \*und\* \| fein" in first and "日本 語" in second


def test_ap_of_nan_is_reported(sweep, tmp_path):
    del sweep.axes["loss"]["broken"]
    record_configs(sweep, tmp_path / "out")
    found = collect(sweep, run_sweep(sweep, tmp_path / "out", executor=finishing(math.nan, [])))
    assert "| focal | nan | nan | nan | base |" in found.markdown()
    assert json.loads(found.as_json())["rows"][0]["nan"]["AP"] == 1


def test_every_run_is_counted_once(tmp_path):
    """The first is finished and its worker has not cleaned up yet; the second failed before and runs again."""
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
        (folder / "running").touch()
        (folder / "failed.txt").touch()
    (folders[0] / "summary.json").touch()
    line = progress_line("mine", folders, begin=time.time() - 60, done_before=0)
    assert line.startswith("mine: 1 of 2 done, running b (0 %)") and "failed" not in line


PROGRAM = """
import sys
from retina_plugin.ablation import load_sweep, run_sweep
from retina_plugin.ablation.runner import on_ray
sweep = load_sweep(sys.argv[1])
del sweep.axes["loss"]["broken"]
run_sweep(sweep, sys.argv[2], executor=on_ray(cpus_per_run=1, gpus_per_run=0) if sys.argv[3] == "ray" else None)
"""


@pytest.mark.long
@pytest.mark.parametrize("ray", [False, True], ids=["alone", "ray"])
@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_sweep_finishes_after_its_driver_or_a_worker_was_killed(sweep, tmp_path, ray, victim):
    """A killed worker is reported as failed, and the other runs are not affected."""
    if ray:
        pytest.importorskip("ray")
    sweep.options["SOLVER.MAX_ITER"] = 30
    text = (tmp_path / "mine.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace('"SOLVER.MAX_ITER": 6', '"SOLVER.MAX_ITER": 30'))
    command = [sys.executable, "-c", PROGRAM, sweep.file, tmp_path / "out", "ray" if ray else "alone"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    first = tmp_path / "out/loss=focal,seed=1"
    wait_for((first / "model_0000003.pth").exists)
    worker = int((first / "running").read_text())
    if victim == "driver":
        process.kill()
        process.wait()
        wait_for(lambda: not alive(worker), 30)
        assert not (first / "summary.json").exists()
    else:
        os.kill(worker, signal.SIGKILL)
        assert process.wait(timeout=300) == 0
        assert "exit code -9" in (first / "failed.txt").read_text()
        assert (tmp_path / "out/loss=ohem,seed=1/summary.json").exists()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "2 of 2 done" in done.stderr, done.stderr
    assert "resumed at iteration" in (first / "log.txt").read_text() and not (first / "failed.txt").exists()


def alive(pid):
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ")[-1][0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_failure_of_a_ray_task_affects_only_its_run(sweep, tmp_path, monkeypatch):
    pytest.importorskip("ray")

    def fails_for_focal(folder, *, threads=0):
        if "focal" in folder.name:
            raise OSError("the machine is gone")
        (folder / "summary.json").write_text("{}")

    monkeypatch.setattr("retina_plugin.ablation.runner.start_worker", fails_for_focal)
    folders = run_sweep(sweep, tmp_path / "out", executor=on_ray(cpus_per_run=1, gpus_per_run=0))
    assert "the machine is gone" in (folders[0] / "failed.txt").read_text()
    assert all((folder / "summary.json").exists() for folder in folders[1:])
