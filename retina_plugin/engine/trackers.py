"""Experiment trackers as Detectron2's event writers: MLflow, Weights & Biases, ClearML and trackio."""

import json
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage

from retina_plugin.config import all_keys, get_key

ID_FILE = "tracker_{}.txt"
"""File in the folder of a run with its id in a tracker: a resumed run continues there."""


class Tracker(EventWriter):
    """Sends the scalars of a training to a tracker.

    Args:
        project: project or experiment.
        folder: of the run; its name is the run's in the tracker.
        parameters: the config, flat.

    Raises:
        ImportError: the tracker's package is not installed.
    """

    name: str
    """Name in LOGGING.TRACKERS."""

    package: str
    """Name to install it by."""

    def __init__(self, *, project: str, folder: Path, parameters: dict[str, Any]) -> None:
        self.folder = folder
        self._window, self._sent = 20, -1
        file = self.folder / ID_FILE.format(self.name)
        before = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
        try:
            run_id = self.start(project, folder.name, parameters, before)
        except ModuleNotFoundError as error:
            raise ImportError(f"LOGGING.TRACKERS {self.name}: pip install {self.package} ({error})") from error
        file.write_text(f"{run_id}\n", encoding="utf-8")

    @abstractmethod
    def start(self, project: str, run: str, parameters: dict[str, Any], before: str) -> str:
        """Start a run, or continue the one with the id ``before`` unless that is empty; return its id."""

    @abstractmethod
    def send(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Send scalars of an iteration."""

    def write(self) -> None:
        """Send what is new since the last call, smoothed as in Detectron2's writers."""
        storage = get_event_storage()
        by_iteration: dict[int, dict[str, float]] = {}
        for name, (value, iteration) in storage.latest_with_smoothing_hint(self._window).items():
            if iteration > self._sent:
                by_iteration.setdefault(iteration, {})[name] = float(value)
        for iteration in sorted(by_iteration):
            self.send(by_iteration[iteration], iteration)
        self._sent = max(by_iteration, default=self._sent)


class MLflowTracker(Tracker):
    """MLflow; MLFLOW_TRACKING_URI says where it is, else a folder ``mlruns``."""

    name, package = "mlflow", "mlflow-skinny"

    def start(self, project: str, run: str, parameters: dict[str, Any], before: str) -> str:
        """Start or continue a run."""
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment(project)
        started = mlflow.start_run(run_id=before or None, run_name=None if before else run)
        if not before:  # parameters of MLflow never change
            mlflow.log_params({key: str(value)[:500] for key, value in parameters.items()})
        return started.info.run_id

    def send(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Send scalars; MLflow has no spaces and brackets in names."""
        self._mlflow.log_metrics({_plain(name): value for name, value in scalars.items()}, step=iteration)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


class WandbTracker(Tracker):
    """Weights & Biases; WANDB_MODE=offline keeps everything here."""

    name, package = "wandb", "wandb"

    def start(self, project: str, run: str, parameters: dict[str, Any], before: str) -> str:
        """Start or continue a run."""
        import wandb

        settings = {"project": project, "name": run, "config": parameters, "dir": str(self.folder)}
        self._run: Any = wandb.init(**settings, **({"id": before, "resume": "allow"} if before else {}))
        return self._run.id

    def send(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Send scalars."""
        self._run.log(dict(scalars), step=iteration)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


class ClearMLTracker(Tracker):
    """ClearML; CLEARML_OFFLINE_MODE=1 keeps everything here."""

    name, package = "clearml", "clearml"

    def start(self, project: str, run: str, parameters: dict[str, Any], before: str) -> str:
        """Start or continue a task."""
        import clearml

        self._task: Any = clearml.Task.init(
            project_name=project,
            task_name=run,
            continue_last_task=before or False,
            reuse_last_task_id=False,
            auto_connect_frameworks=False,
            auto_connect_arg_parser=False,
        )
        self._task.connect({key: str(value) for key, value in parameters.items()}, name="config")
        return self._task.id

    def send(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Send scalars; "bbox/AP" is the series AP of the plot bbox."""
        logger = self._task.get_logger()
        for name, value in scalars.items():
            title, _, series = name.rpartition("/")
            logger.report_scalar(title or series, series, value, iteration)

    def close(self) -> None:
        """End the task."""
        self._task.close()


class TrackioTracker(Tracker):
    """trackio, which keeps everything here unless a Space is configured."""

    name, package = "trackio", "trackio"

    def start(self, project: str, run: str, parameters: dict[str, Any], before: str) -> str:
        """Start or continue a run; its name is its id."""
        import trackio

        self._trackio = trackio
        trackio.init(project=project, name=before or run, config=parameters, resume="allow")
        return before or run

    def send(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Send scalars."""
        self._trackio.log(dict(scalars), step=iteration)

    def close(self) -> None:
        """End the run."""
        self._trackio.finish()


TRACKERS: dict[str, type[Tracker]] = {
    kind.name: kind for kind in (MLflowTracker, WandbTracker, ClearMLTracker, TrackioTracker)
}
"""Trackers by their name in LOGGING.TRACKERS."""


def build_trackers(cfg: CfgNode) -> list[EventWriter]:
    """Return the writers that LOGGING.TRACKERS names.

    Raises:
        ImportError: the package of one is not installed.
    """
    names, project, folder = cfg.LOGGING.TRACKERS, cfg.LOGGING.PROJECT, Path(cfg.OUTPUT_DIR)
    return [TRACKERS[name](project=project, folder=folder, parameters=parameters_of(cfg)) for name in names]


def parameters_of(cfg: CfgNode) -> dict[str, Any]:
    """Return the config as a flat mapping; values that are no numbers or texts become JSON."""
    values = {key: get_key(cfg, key) for key in all_keys(cfg)}
    return {
        key: value if isinstance(value, bool | int | float | str) else json.dumps(value, default=str)
        for key, value in values.items()
    }


def _plain(name: str) -> str:
    """Return the name of a metric with the characters that MLflow allows.

    Example:
        >>> _plain("bbox/AP-white [cell]")
        'bbox/AP-white _cell_'
    """
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)
