"""The plan of a training: what the rules chose for a dataset, as options, as a table and as a config."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from detectron2.config import CfgNode
from detectron2.modeling import build_model

from retina_plugin.config.key import all_keys, as_sections, get_key
from retina_plugin.config.load import load_config
from retina_plugin.names import one_line
from retina_plugin.plan.budget import Budget, Speed, measure
from retina_plugin.plan.draft import Choice, Draft
from retina_plugin.plan.fingerprint import Fingerprint
from retina_plugin.plan.rules import AFTER_MEASURING, RULES, Rule
from retina_plugin.plan.training_rules import FEWEST_STEPS

FILE = "planned.json"
"""File name of a plan in the folder of a run; resuming uses it instead of planning again."""

FEW_OBJECTS, FEW_IMAGES = 10, 20
"""Objects of a class, and validation images, below which a note says so."""

LEAKED = 0.05
"""Share of validation images with a near-duplicate among the training images above which a note says so."""

WITHOUT_DATA = ("DATASETS.TRAIN", (), "DATASETS.TEST", (), "DATASETS.FINAL_TEST", ())
"""Options with which a config loads while its datasets are not known, so that its epochs stay epochs."""


@dataclass(frozen=True)
class Plan:
    """What was chosen for a dataset.

    Args:
        choices: in the order in which they were made; none sets a key that the user set.
        facts: about the data.
        speed: what was measured; None if nothing was.
    """

    choices: tuple[Choice, ...]
    facts: Fingerprint
    speed: Speed | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Return the keys that the plan sets and their values."""
        return {key: value for choice in self.choices for key, value in choice.settings.items()}

    def options(self) -> list[str]:
        """Return the settings as alternating keys and values, as on the command line."""
        return options_of(self.settings)

    def table(self) -> str:
        """Return the choices as text, what, value, why, cost, and notes on the data."""
        width = max((len(choice.what) for choice in self.choices), default=0)
        lines = []
        for choice in self.choices:
            values = ", ".join(f"{key} {shown(value)}" for key, value in choice.settings.items())
            lines.append(f"{choice.what:{width}}  {values}")
            lines.append(f"{'':{width}}  why: {choice.why}")
            if choice.cost:
                lines.append(f"{'':{width}}  cost: {choice.cost}")
        lines += [f"note: {note}" for note in notes_on(self.facts)]
        return "\n".join(map(one_line, lines))

    def config(self, base: str, more: Mapping[str, Any]) -> str:
        """Return the plan as a config file that a person can edit.

        Args:
            base: path for ``_BASE_``.
            more: further keys and their values, such as the datasets.
        """
        lines = ["# Planned from the data. Why each key has its value, and what that costs:"]
        for choice in self.choices:
            cost = f" Cost: {choice.cost}." if choice.cost else ""
            reason = f"{choice.what} ({', '.join(choice.settings)}): {choice.why}.{cost}"
            lines.append(f"# - {one_line(reason)}")
        content = {"_BASE_": base, **as_sections({**more, **self.settings})}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)
        return "\n".join(lines) + f"\n{text}"

    def json(self) -> str:
        """Return the plan as JSON, with the facts that it is based on."""
        speed = asdict(self.speed) if self.speed else None
        choices = [asdict(choice) for choice in self.choices]
        return json.dumps({"choices": choices, "facts": asdict(self.facts), "speed": speed}, indent=1)


def notes_on(facts: Fingerprint) -> list[str]:
    """Return what no plan can mend: sentences about data that is too little, or that flatters the result."""
    notes = []
    if few := [f"{name} ({count})" for name, count in facts.classes.items() if count < FEW_OBJECTS]:
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        notes.append(f"classes with fewer than {FEW_OBJECTS} objects are hardly learned: {', '.join(few[:5])}{more}")
    if facts.val_images < FEW_IMAGES:
        notes.append(f"the AP of {facts.val_images} validation images is mostly chance")
    if facts.val_alike > LEAKED:
        share = f"{100 * facts.val_alike:.0f} %"
        notes.append(f"{share} of the validation images look like a training image, which flatters the AP")
    return notes


def shown(value: Any) -> str:
    """Return a value as people write it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(x) for x in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def options_of(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as alternating keys and values, as on the command line.

    Example:
        >>> options_of({"SOLVER.EPOCHS": 24, "INPUT.MIN_SIZE_TRAIN": [288, 320]})
        ['SOLVER.EPOCHS', '24', 'INPUT.MIN_SIZE_TRAIN', '[288, 320]']
    """
    return [word for key, value in settings.items() for word in (key, str(value))]


def earlier_options(folder: str | os.PathLike) -> list[str] | None:
    """Return the options of the plan in the folder of a run; None if it has none.

    Raises:
        ValueError: the file is not a plan.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        return None
    try:
        choices = json.loads(file.read_text(encoding="utf-8"))["choices"]
        return options_of({key: value for choice in choices for key, value in choice["settings"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is not a plan: {error}") from error


def make_plan(
    facts: Fingerprint,
    records: list[dict],
    classes: int,
    *,
    config_file: str | os.PathLike,
    opts: Sequence[str] = (),
    budget: Budget | None = None,
    test_images: int = 0,
    last_images: int = 0,
    build: Callable[[CfgNode], nn.Module] = build_model,
) -> Plan:
    """Plan a training.

    Args:
        facts: about the data, see :func:`retina_plugin.plan.fingerprint.fingerprint_of`.
        records: of the training split.
        classes: number of classes, K.
        config_file: the config that the plan is a change of.
        opts: keys and values of the user, which the plan does not change.
        budget: what the training may cost; None: a number of epochs that follows from the data.
        test_images: images that one evaluation looks at.
        last_images: images that are evaluated at the end.
        build: builds the model that is measured.

    Returns:
        The plan. The speed is measured only if the budget has minutes or memory, so that the same data gives the same
        plan everywhere otherwise.

    Raises:
        ValueError: the config or the options are wrong, the budget is too small for a training, or both minutes and
            SOLVER.EPOCHS are given.
    """
    budget = budget or Budget()
    given = [str(word) for word in opts]
    if len(given) % 2:
        raise ValueError(f"config options come in pairs KEY VALUE; got {len(given)} words: {' '.join(given)}")
    if budget.minutes and ("SOLVER.EPOCHS" in given[0::2] or "SOLVER.MAX_ITER" in given[0::2]):
        raise ValueError("minutes and SOLVER.EPOCHS or SOLVER.MAX_ITER both say how long to train: give one of them")
    count = ["MODEL.RETINANET.NUM_CLASSES", str(classes)]
    base = _config(config_file, [*given, *count])
    settled = {key: get_key(base, key) for key in all_keys(base)}
    # Loading has scaled the config to the batch; the keys of the plan are scaled when it is loaded.
    reference = "SOLVER.REFERENCE_BATCH_SIZE"
    if reference not in given[0::2]:
        settled[reference] = get_key(_config(config_file, count), reference)
    draft = Draft(
        facts,
        records,
        budget,
        settled=settled,
        given=frozenset(given[0::2]),
        test_images=test_images,
        last_images=max(test_images, last_images),
    )
    _ask(draft, RULES)
    if budget.minutes or budget.memory:
        draft.speed = _measured(draft, config_file, given, classes, build)
    if budget.memory and draft.speed and not draft.speed.memory:
        raise ValueError("the memory of a step could not be measured here: set SOLVER.ACCUMULATE yourself")
    _ask(draft, AFTER_MEASURING)
    if budget.minutes and not draft.settled["SOLVER.EPOCHS"] and draft.settled["SOLVER.MAX_ITER"] < FEWEST_STEPS:
        raise ValueError(f"{budget.minutes:g} minutes are too short for a training here")
    return Plan(tuple(draft.choices), facts, draft.speed)


def _ask(draft: Draft, rules: Sequence[Rule]) -> None:
    """Ask rules one after another, and settle what they choose."""
    for rule in rules:
        found = rule.choose(draft) if rule.is_open(draft) else None
        for choice in found if isinstance(found, list) else [found]:
            if choice is not None:
                draft.apply(choice)


def _config(config_file: str | os.PathLike, opts: Sequence[str]) -> CfgNode:
    """Load the config without its datasets; what the user says about them is left out."""
    pairs = list(zip(opts[0::2], opts[1::2], strict=True))
    kept = [(key, value) for key, value in pairs if not key.startswith("DATASETS.")]
    kept += [(str(key), str(value)) for key, value in zip(WITHOUT_DATA[0::2], WITHOUT_DATA[1::2], strict=True)]
    return load_config(config_file, [word for pair in kept for word in pair])


def _measured(
    draft: Draft,
    config_file: str | os.PathLike,
    given: Sequence[str],
    classes: int,
    build: Callable[[CfgNode], nn.Module],
) -> Speed:
    """Measure a few steps of what has been planned so far."""
    settings = {key: value for choice in draft.choices for key, value in choice.settings.items()}
    cfg = _config(config_file, [*options_of(settings), *given, "MODEL.RETINANET.NUM_CLASSES", str(classes)])
    height, width = draft.input_size
    objects = max(1, round(draft.facts.per_image[2]))
    speed = measure(cfg, draft.records, height=height, width=width, objects=objects, build=build)
    return replace(speed, test=speed.test * draft.test_pixels)
