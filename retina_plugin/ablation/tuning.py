"""Search for values of a few config keys by trainings, with Optuna's tree-structured Parzen estimator."""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from retina_plugin.ablation.worker import FAILED, PLAN, start_worker
from retina_plugin.config.key import as_sections
from retina_plugin.config.load import literal
from retina_plugin.engine.console import say
from retina_plugin.engine.summary import SUMMARY
from retina_plugin.text import read_yaml

STATE = "tuning.json"
"""File with the settings of a search in its folder; one with other settings is refused."""

BEST = "best.yaml"
"""Config with the best values that were found."""

MOST_FAILURES = 3
"""Failed trials at the start after which a search ends."""

RANDOM_TRIALS = 5
"""Trials that are drawn at random before any is proposed."""

STRENGTH = "augmentation"
"""Parameter that stands for several keys, see :func:`keys_of`."""


@dataclass(frozen=True)
class Range:
    """Numbers to search among.

    Args:
        low, high: ends of the range.
        log: whether the logarithm is drawn uniformly; both ends are then above 0.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        finite = math.isfinite(self.low) and math.isfinite(self.high)
        if not finite or self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"a range is [low, high] with low < high, above 0 if log; got [{self.low}, {self.high}]")


Space = Mapping[str, Range | tuple[Any, ...]]
"""Parameters to search: a config key, or ``STRENGTH``, and a range or a choice of values."""


def default_space(rate: float, scale: float) -> dict[str, Range | tuple[Any, ...]]:
    """Return what is searched by default: learning rate, strength of the augmentation, and anchors.

    Args:
        rate: SOLVER.BASE_LR of the config, the middle of the range.
        scale: MODEL.ANCHOR_GENERATOR.SCALE of the config, likewise.
    """
    return {
        "SOLVER.BASE_LR": Range(rate / 4, rate * 4, log=True),
        STRENGTH: Range(0.0, 1.0),
        "MODEL.ANCHOR_GENERATOR.SCALE": Range(round(scale / 1.6, 3), round(scale * 1.6, 3), log=True),
        "MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE": (2, 3, 4),
    }


def read_space(file: str | os.PathLike) -> dict[str, Range | tuple[Any, ...]]:
    """Read a space from YAML: a key, and {low, high, log} or a list of values.

    Raises:
        ValueError: it is not such a file.
        FileNotFoundError: it does not exist.
    """
    data = read_yaml(file, what="search space")
    if not isinstance(data, dict) or not data:
        raise ValueError(f"{file} must be a mapping of config keys to a list of values or to {{low, high, log}}")
    space: dict[str, Range | tuple[Any, ...]] = {}
    for key, value in data.items():
        try:
            if isinstance(value, str):
                raise TypeError(f"got the word {value!r}")
            space[str(key)] = Range(**value) if isinstance(value, dict) else tuple(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file}: {key} must be a list of values or {{low, high, log}}: {error}") from error
        if isinstance(space[str(key)], tuple) and not space[str(key)]:
            raise ValueError(f"{file}: {key} has no values to choose from")
    return space


def keys_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config keys that the parameters of a trial stand for.

    The strength s of the augmentation, 0..1, is INPUT.COLOR_JITTER 0.4 s and INPUT.SCALE_JITTER from 1 - s / 2 to
    1 + s.

    Example:
        >>> keys_of({"augmentation": 0.5, "SOLVER.BASE_LR": 0.001})
        {'INPUT.COLOR_JITTER': 0.2, 'INPUT.SCALE_JITTER': (0.75, 1.5), 'SOLVER.BASE_LR': 0.001}
    """
    keys: dict[str, Any] = {}
    for name, value in values.items():
        if name == STRENGTH:
            keys["INPUT.COLOR_JITTER"] = round(0.4 * value, 3)
            keys["INPUT.SCALE_JITTER"] = (round(1 - value / 2, 3), round(1 + value, 3)) if value else ()
        else:
            keys[name] = value
    return keys


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Args:
        number: from 0.
        values: of the parameters.
        score: the metric; None if the training failed.
        reason: why it failed.
    """

    number: int
    values: dict[str, Any]
    score: float | None
    reason: str = ""


def tune(
    config_file: str | os.PathLike,
    output: str | os.PathLike,
    *,
    space: Space,
    metric: str = "bbox/AP",
    trials: int | None = None,
    minutes: float | None = None,
    opts: tuple[str, ...] = (),
    seed: int = 0,
    train: Callable[[Path], object] = start_worker,
) -> list[Trial]:
    """Train with values that Optuna proposes, until the budget is used up; what has ended in ``output`` is kept.

    The first five trials are drawn at random, the others where good trials are denser than bad ones (Bergstra et al.
    2011, *Algorithms for Hyper-Parameter Optimization*). The proposals follow from the seed and the trials so far, so
    that an interrupted search goes on as it would have.

    Args:
        config_file: config of the trainings.
        output: folder of the search; each trial gets a folder in it.
        space: what is searched.
        metric: of the validation data, higher is better, as in TEST.BEST_METRIC.
        trials: number of trainings in all; None: as many as fit into ``minutes``.
        minutes: no training is started later than this after the beginning of this call; None: no limit.
        opts: KEY, VALUE, ... for every training.
        seed: of the proposals.
        train: runs the worker of a folder.

    Returns:
        The trials, in order.

    Raises:
        ValueError: there is no budget, ``output`` holds another search, or the first trainings all failed.
        ImportError: Optuna is not installed.
    """
    if trials is None and minutes is None:
        raise ValueError("give a number of trials or minutes")
    output = Path(output).resolve()
    settings = {
        "config_file": str(Path(config_file).resolve()),
        "opts": list(opts),
        "metric": metric,
        "seed": seed,
        "space": {key: asdict(value) if isinstance(value, Range) else list(value) for key, value in space.items()},
    }
    _check_same(output, settings)
    done: list[Trial] = []
    begin = time.monotonic()
    while trials is None or len(done) < trials:
        folder = output / f"trial_{len(done):03d}"
        values = _planned(folder) or _proposal(space, done, seed)
        if not _ended(folder):
            if minutes is not None and time.monotonic() - begin > 60 * minutes:
                break
            _write_plan(folder, settings, values)
            train(folder)
        trial = _result(folder, len(done), values, metric)
        done.append(trial)
        say(described(trial, metric))
        if len(done) == MOST_FAILURES and best_of(done) is None:
            raise ValueError(f"the first {MOST_FAILURES} trainings failed, the last because: {trial.reason}")
    _write_best(output, settings, done)
    return done


def described(trial: Trial, metric: str) -> str:
    """Return a trial in one line.

    Example:
        >>> described(Trial(3, {"SOLVER.BASE_LR": 0.00123456}, 41.234), "bbox/AP")
        'trial 3: bbox/AP 41.23, SOLVER.BASE_LR 0.001235'
    """
    shown = (
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in trial.values.items()
    )
    result = f"failed ({trial.reason})" if trial.score is None else f"{metric} {trial.score:.2f}"
    return f"trial {trial.number}: {result}, {', '.join(shown)}"


def best_of(done: list[Trial]) -> Trial | None:
    """Return the trial with the highest score; None if all failed."""
    scored = [trial for trial in done if trial.score is not None]
    return max(scored, key=lambda trial: (trial.score or 0.0, -trial.number), default=None)


def _check_same(output: Path, settings: dict[str, Any]) -> None:
    """Note the settings in a new folder; refuse a folder with other ones."""
    file = output / STATE
    output.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        file.write_text(json.dumps(settings, indent=1), encoding="utf-8")
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(settings))
    if changed := [name for name in now if before.get(name) != now[name]]:
        raise ValueError(f"{output} holds a search with different {', '.join(changed)}; choose a different --output")


def _planned(folder: Path) -> dict[str, Any] | None:
    """Return the values of a trial that was started before; None if it was not."""
    file = folder / "values.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _proposal(space: Space, done: list[Trial], seed: int) -> dict[str, Any]:
    """Return what Optuna proposes after the trials so far."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError("retina tune needs Optuna: pip install 'retina-plugin[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions: dict[str, Any] = {}
    for key, value in space.items():
        if isinstance(value, Range):
            distributions[key] = optuna.distributions.FloatDistribution(value.low, value.high, log=value.log)
        else:
            distributions[key] = optuna.distributions.CategoricalDistribution(value)
    seed = int(np.random.SeedSequence([seed, len(done)]).generate_state(1)[0])
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS, multivariate=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in done:
        state = optuna.trial.TrialState.FAIL if trial.score is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(
            optuna.trial.create_trial(state=state, params=trial.values, distributions=distributions, value=trial.score)
        )
    return study.ask(distributions).params


def _write_plan(folder: Path, settings: dict[str, Any], values: dict[str, Any]) -> None:
    """Write what the worker of a trial does."""
    folder.mkdir(exist_ok=True)
    (folder / "values.json").write_text(json.dumps(values), encoding="utf-8")
    words = [str(word) for pair in keys_of(values).items() for word in pair]
    opts = [*settings["opts"], *words, "DATASETS.FINAL_TEST", "()", "OUTPUT_DIR", str(folder)]
    plan = {"config_file": settings["config_file"], "num_gpus": 1, "opts": opts}
    (folder / PLAN).write_text(json.dumps(plan, indent=1), encoding="utf-8")


def _ended(folder: Path) -> bool:
    """Return whether the training of a trial has ended, well or badly."""
    return (folder / SUMMARY).is_file() or (folder / FAILED).is_file()


def _result(folder: Path, number: int, values: dict[str, Any], metric: str) -> Trial:
    """Return a trial with what became of it."""
    if (folder / FAILED).is_file():
        return Trial(number, values, None, (folder / FAILED).read_text(encoding="utf-8"))
    results = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["results"]
    task, _, name = metric.rpartition("/")
    score = results.get(task, {}).get(name)
    if score is None or not math.isfinite(score):
        return Trial(number, values, None, f"its results have no {metric}")
    return Trial(number, values, float(score))


def _write_best(output: Path, settings: dict[str, Any], done: list[Trial]) -> None:
    """Write the config of the best trial."""
    best = best_of(done)
    if best is None:
        return
    head = (
        f"# The best of {len(done)} trials of retina tune: {settings['metric']} {best.score:.2f} on the data by which\n"
        "# it was chosen, which flatters it. Judge it by other data.\n"
    )
    words = settings["opts"]
    given = {key: literal(value) for key, value in zip(words[0::2], words[1::2], strict=True)}
    content = {"_BASE_": settings["config_file"], **as_sections({**given, **keys_of(best.values)})}
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
    (output / BEST).write_text(head + text, encoding="utf-8")
