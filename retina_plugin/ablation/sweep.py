"""Sweep files, and the runs that they define."""

import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from retina_plugin.config import dump_config, load_config
from retina_plugin.config.files import shipped_or_own
from retina_plugin.evaluation import unknown_metrics
from retina_plugin.text import read_yaml

KEYS = {
    "title": "one line for the table",
    "base": "config file, relative to the sweep file",
    "axes": "name -> {label: {KEY: value}}, or KEY -> [values]",
    "seeds": "list of SEED",
    "compare_to": "axis -> label of the row that the others are compared to (default: the first label of each axis)",
    "report": "metrics in the table; rows are compared by the first",
    "options": "KEY: value for every run",
    "paper": "row labels joined by ', ' -> {metric: value}, published figures to show next to the results",
    "sizes": "name -> keys of this list that replace those above, chosen by --size",
}
"""Keys of a sweep file; ``base`` and ``axes`` are required, in the file or in every size."""


SET_BY_THE_SWEEP = {"SEED": "list the seeds under seeds", "OUTPUT_DIR": "use --output"}
"""Keys whose value the sweep sets for each run, with what to do instead."""

PLAIN = re.compile(r"\w[\w.-]*")
"""Names that can be part of a folder's name."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a sweep.

    Attributes:
        labels: one label per axis, in the order of the axes.
        seed: SEED.
        options: KEY -> value, the differences from the base config.
    """

    labels: tuple[str, ...]
    seed: int
    options: dict[str, Any]

    def name(self, axes: tuple[str, ...]) -> str:
        """Return the name of the run's folder, such as "gamma=2,seed=1"."""
        pairs = [(axis.rsplit(".")[-1], label) for axis, label in zip(axes, self.labels, strict=True)]
        pairs.append(("seed", str(self.seed)))
        return ",".join(f"{_plain(name)}={_plain(label)}" for name, label in pairs)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep file, read and checked.

    The attributes are those of ``KEYS``, with ``axes`` as axis -> label -> options. ``only`` selects the rows whose
    labels contain one of its texts, in addition to the row that the others are compared to; empty selects all.
    """

    file: Path
    size: str
    title: str
    base: Path
    axes: dict[str, dict[str, dict[str, Any]]]
    seeds: tuple[int, ...]
    compare_to: tuple[str, ...]
    report: tuple[str, ...]
    options: dict[str, Any]
    paper: dict[str, dict[str, float]]
    only: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name without its suffix, and the size if the file has sizes."""
        return _plain(self.file.stem) + (f"-{self.size}" if self.size else "")

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The labels of every row of the table: all combinations of the axes, or those that ``only`` selects."""
        return [row for row in itertools.product(*self.axes.values()) if self._is_selected(row)]

    def _is_selected(self, row: tuple[str, ...]) -> bool:
        """Return whether a row belongs to the table."""
        return not self.only or row == self.compare_to or any(text in ", ".join(row) for text in self.only)

    @property
    def runs(self) -> list[Run]:
        """All rows with all seeds; the first seed of every row comes first, so that a table is available early."""
        return [
            Run(labels, seed, {**self.options, **self.changes(labels), "SEED": seed})
            for seed in self.seeds
            for labels in self.rows
        ]

    def changes(self, labels: tuple[str, ...]) -> dict[str, Any]:
        """Return KEY -> value of a row, without the seed and the options of all runs."""
        return {
            key: value
            for axis, label in zip(self.axes, labels, strict=True)
            for key, value in self.axes[axis][label].items()
        }

    def config(self, run: Run, folder: str | os.PathLike) -> CfgNode:
        """Return the config of a run that writes to ``folder``.

        Raises:
            ValueError: the config is invalid; the message names the run.
        """
        opts = [word for pair in {**run.options, "OUTPUT_DIR": os.fspath(folder)}.items() for word in pair]
        try:
            return load_config(self.base, opts)
        except ValueError as error:
            raise ValueError(f"{self.file}, {run.name(tuple(self.axes))}: {error}") from error

    def check(self) -> None:
        """Check that every run has a valid config, and that no two rows are equal.

        Raises:
            ValueError: with all problems, one per line.
        """
        problems = [f"{self.file}: {problem}" for problem in self._mistakes()]
        seen: dict[str, tuple[str, ...]] = {}
        names = [run.name(tuple(self.axes)) for run in self.runs]
        problems += [
            f"{self.file}: two runs have the folder {name}; their labels differ only in punctuation"
            for name in sorted({n for n in names if names.count(n) > 1})
        ]
        for run in self.runs:
            if run.seed != self.seeds[0]:
                continue
            try:
                cfg = self.config(run, "folder")
                text = dump_config(cfg)
                problems += [f"{self.file}: report: {problem}" for problem in unknown_metrics(cfg, self.report)]
            except ValueError as error:
                problems.append(str(error))
                continue
            if text in seen:
                rows = f"{', '.join(seen[text])!r} and {', '.join(run.labels)!r}"
                problems.append(f"{self.file}: the rows {rows} have the same config")
            seen[text] = run.labels
        if problems:
            raise ValueError("\n".join(dict.fromkeys(problems)))

    def _mistakes(self) -> Iterator[str]:
        """Yield the problems that can be found without building a config."""
        setters: dict[str, list[str]] = {}
        for axis, labels in self.axes.items():
            for key in dict.fromkeys(key for options in labels.values() for key in options):
                setters.setdefault(key, []).append(axis)
        for key, axes in setters.items():
            if len(axes) > 1:
                yield f"the axes {' and '.join(axes)} both set {key}: a row's value would depend on their order"
        for key, instead in SET_BY_THE_SWEEP.items():
            if places := [*setters.get(key, ()), *(["options"] if key in self.options else [])]:
                yield f"{key} is set by {' and '.join(places)}, but the sweep sets it: {instead}"
        if seeds := sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1}):
            yield f"seeds has {', '.join(map(str, seeds))} more than once"
        if negative := [seed for seed in self.seeds if seed < 0]:
            yield f"seeds has {negative[0]}; a negative SEED draws a new seed every time, so runs cannot be compared"
        if metrics := sorted({metric for metric in self.report if self.report.count(metric) > 1}):
            yield f"report has {', '.join(metrics)} more than once"


def load_sweep(
    file: str | os.PathLike, size: str = "", options: dict[str, Any] | None = None, only: Sequence[str] = ()
) -> Sweep:
    """Read a sweep file; ``KEYS`` describes its content.

    Args:
        file: path of a YAML file.
        size: one of its ``sizes``; "" for the first of them.
        options: KEY -> value for every run, in addition to those of the file.
        only: see :class:`Sweep`.

    Raises:
        FileNotFoundError: the file or its base config does not exist.
        ValueError: the file is not YAML, or has an unknown key or size, a value of the wrong type, or a missing key.
    """
    file = shipped_or_own(file)
    if not file.is_file():
        raise FileNotFoundError(f"sweep file {os.fspath(file)!r} does not exist (looked in {Path.cwd()})")
    data = read_yaml(file, what="sweep file")
    if not isinstance(data, dict):
        raise ValueError(f"{file}: expected keys ({', '.join(KEYS)}), got {type(data).__name__}")
    sizes = data.pop("sizes", {})
    _check_sizes(sizes, file)
    if size and size not in sizes:
        raise ValueError(f"{file} has no size {size!r}; it has {', '.join(sizes) or 'none'}")
    size = size or next(iter(sizes), "")
    data = {**data, **sizes.get(size, {})}
    if unknown := [key for key in data if key not in KEYS]:
        raise ValueError(f"{file}: unknown keys {', '.join(map(str, unknown))}; a sweep has {', '.join(KEYS)}")
    if missing := [key for key in ("base", "axes") if not data.get(key)]:
        raise ValueError(f"{file}: {' and '.join(missing)} missing")
    wrong = [(key, value) for key, value in data.items() if not KINDS[key][0](value)]
    if wrong:
        problems = [f"{key} must be {KINDS[key][1]}, got {value!r}" for key, value in wrong]
        raise ValueError("\n  ".join([f"{file}:", *problems]))
    base = file.parent / data["base"]
    if not os.path.isfile(base):
        raise FileNotFoundError(f"{file}: its base config {data['base']!r} does not exist")
    axes = {name: _axis(name, values, file) for name, values in data["axes"].items()}
    if unknown := [str(name) for name in data.get("compare_to", {}) if name not in axes]:
        raise ValueError(f"{file}: compare_to names the axis {unknown[0]!r}; there are {', '.join(map(str, axes))}")
    compare_to = {name: str(data.get("compare_to", {}).get(name, next(iter(labels)))) for name, labels in axes.items()}
    sweep = Sweep(
        file=file,
        size=size,
        title=data.get("title", file.stem),
        base=base,
        axes=axes,
        seeds=tuple(data.get("seeds", [1])),
        compare_to=tuple(compare_to.values()),
        report=tuple(data.get("report", ["AP", "AP50", "AP75"])),
        options={**data.get("options", {}), **(options or {})},
        paper={str(k): v for k, v in data.get("paper", {}).items()},
    )
    rows = {", ".join(row) for row in sweep.rows}
    if ", ".join(sweep.compare_to) not in rows:
        raise ValueError(f"{file}: compare_to names the row {', '.join(sweep.compare_to)!r}; there are {sorted(rows)}")
    if stray := sorted(set(sweep.paper) - rows):
        raise ValueError(f"{file}: paper has values for {stray}, but the rows are {sorted(rows)}")
    if stray := [text for text in only if not any(text in row for row in rows)]:
        raise ValueError(f"{file}: no row has {stray[0]!r} in its labels; there are {sorted(rows)}")
    return dataclasses.replace(sweep, only=tuple(only))


def _check_sizes(sizes: Any, file: Path) -> None:
    """Check the value of ``sizes``.

    Raises:
        ValueError: it is not a mapping of names to keys, or a name cannot be part of a folder's name.
    """
    if not _is_mapping_of(sizes, lambda keys: isinstance(keys, dict)):
        raise ValueError(f"{file}: sizes must be names with keys below each; got {sizes!r}")
    if wrong := [name for name in sizes if not PLAIN.fullmatch(name)]:
        raise ValueError(
            f"{file}: the size {wrong[0]!r} becomes part of a folder's name, so it must consist of letters, digits, "
            "'.', '-' and '_', and start with a letter or digit"
        )


def _is_mapping(value: Any) -> bool:
    """Return whether a value is a mapping with names or numbers as keys."""
    return isinstance(value, dict) and all(isinstance(key, (str, int, float)) for key in value)


def _is_mapping_of(value: Any, is_valid: Callable[[Any], bool]) -> bool:
    """Return whether a value is a mapping from names to valid values."""
    return isinstance(value, dict) and all(isinstance(key, str) and is_valid(x) for key, x in value.items())


def _is_list_of(*kinds: type) -> Callable[[Any], bool]:
    """Return a check for non-empty lists with entries of exactly these types."""
    return lambda value: isinstance(value, list) and len(value) > 0 and all(type(entry) in kinds for entry in value)


def _is_paper(value: Any) -> bool:
    """Return whether a value is a mapping from rows to mappings from metrics to numbers."""
    return _is_mapping(value) and all(
        _is_mapping(row) and all(type(x) in (int, float) for x in row.values()) for row in value.values()
    )


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "title": (lambda value: isinstance(value, str), "a line of text"),
    "base": (lambda value: isinstance(value, str), "the path of a config file"),
    "axes": (_is_mapping, "names or keys with their values"),
    "seeds": (_is_list_of(int), "a list of integers"),
    "compare_to": (_is_mapping, "axis -> label"),
    "report": (_is_list_of(str), "a list of names of metrics"),
    "options": (_is_mapping, "KEY: value"),
    "paper": (_is_paper, "row labels -> {metric: number}"),
}
"""The check of each value of ``KEYS``, and what it accepts, for messages."""


def _plain(text: str) -> str:
    """Return text for a folder's name: anything but letters, digits, "_", "." and "-" is replaced by "_"."""
    return re.sub(r"[^\w.-]+", "_", text)


def _axis(name: str, values: Any, file: Path) -> dict[str, dict[str, Any]]:
    """Return label -> options of an axis, from named groups or from the values of one key."""
    if isinstance(values, list) and values:
        labels = [re.sub(r"[\s'\"]", "", str(value)) for value in values]
        if twice := next((label for label in labels if labels.count(label) > 1), None):
            raise ValueError(f"{file}: the axis {name} has the value {twice} more than once")
        return {label: {name: value} for label, value in zip(labels, values, strict=True)}
    if isinstance(values, dict) and values and all(_is_mapping_of(x, lambda _: True) for x in values.values()):
        return {str(label): group for label, group in values.items()}
    raise ValueError(
        f"{file}: the axis {name} must be a list of values of the key {name}, or labels with KEY: value below each; "
        f"got {values!r}"
    )
