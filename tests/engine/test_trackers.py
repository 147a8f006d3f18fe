"""Trackers: what they are sent, that a resumed run continues, and what happens without their packages."""

import sys
import types

import pytest
from support import TINY

from detectron2.utils.events import EventStorage

from retina_plugin import load_config
from retina_plugin.engine import trackers
from retina_plugin.engine.trackers import ID_FILE, TRACKERS, build_trackers, parameters_of


def config(folder, *names):
    from support import BASE

    return load_config(BASE, [*TINY, "OUTPUT_DIR", str(folder), "LOGGING.TRACKERS", names, "LOGGING.PROJECT", "cells"])


class Recorder(types.ModuleType):
    """A stand-in for wandb, clearml and trackio that records every call."""

    def __init__(self, name):
        super().__init__(name)
        self.calls = []
        self.id = "run-1"
        self.Task = self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args, **kwargs):
            self.calls.append((name, args, kwargs))
            return self

        return call

    def named(self, name):
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]


def train(writer, count=3, start=0):
    with EventStorage(start) as storage:
        for i in range(start, start + count):
            storage.iter = i
            storage.put_scalar("loss", 2.0 * i, smoothing_hint=False)
            writer.write()
    writer.close()


@pytest.mark.parametrize(
    "name, start, sent",
    [("wandb", "init", "log"), ("clearml", "init", "report_scalar"), ("trackio", "init", "log")],
)
def test_each_scalar_is_sent_once_and_a_resumed_run_continues(tmp_path, monkeypatch, name, start, sent):
    module = Recorder(name)
    monkeypatch.setitem(sys.modules, name, module)
    cfg = config(tmp_path, name)
    (writer,) = build_trackers(cfg)
    train(writer)
    calls = [(*args, *kwargs.values()) for args, kwargs in module.named(sent)]
    steps = [call[-1] for call in calls]
    assert steps == [0, 1, 2]
    assert {"loss": 4.0} in calls[2] or 4.0 in calls[2]
    (_, settings) = module.named(start)[0]
    assert "cells" in settings.values() and tmp_path.name in settings.values()
    run_id = (tmp_path / ID_FILE.format(name)).read_text().strip()
    assert run_id == (tmp_path.name if name == "trackio" else "run-1")
    build_trackers(cfg)
    assert run_id in module.named(start)[1][1].values()


@pytest.mark.parametrize("name", list(TRACKERS))
def test_a_missing_package_is_named_at_the_start(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"LOGGING.TRACKERS {name}: pip install {TRACKERS[name].package}"):
        build_trackers(config(tmp_path, name))


def test_without_the_key_there_are_none(tmp_path):
    assert build_trackers(config(tmp_path)) == []


def test_parameters_are_flat_and_plain(tmp_path):
    found = parameters_of(config(tmp_path))
    assert found["LOGGING.PROJECT"] == "cells" and found["MODEL.RETINANET.LEVELS"] == "[3, 4, 5, 6, 7]"
    assert all(isinstance(value, bool | int | float | str) for value in found.values())


@pytest.mark.slow
def test_mlflow_holds_the_curve_of_a_stopped_and_resumed_training(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions prefer a database
    store = (tmp_path / "mlruns").as_uri()
    mlflow.set_tracking_uri(store)
    cfg = config(tmp_path, "mlflow")
    train(build_trackers(cfg)[0])
    train(build_trackers(cfg)[0], start=3)
    run_id = (tmp_path / ID_FILE.format("mlflow")).read_text().strip()
    client = mlflow.MlflowClient(store)
    run = client.get_run(run_id)
    assert run.data.params["MODEL.RESNETS.DEPTH"] == "18" and run.info.run_name == tmp_path.name
    history = client.get_metric_history(run_id, "loss")
    assert [(x.step, x.value) for x in history] == [(i, 2.0 * i) for i in range(6)]
    assert trackers.ID_FILE.format("mlflow") in {file.name for file in tmp_path.iterdir()}
