"""Model, loaders and evaluator of a config."""

import pytest
from support import ROOT, SMALL

from retina_plugin import load_config
from retina_plugin.data import catalog
from retina_plugin.data.problems import DatasetProblems, Kind, Problem
from retina_plugin.engine import builders


def cfg_for(folder, *opts):
    return load_config(ROOT / "configs/digits/quickstart.yaml", [*SMALL, "OUTPUT_DIR", str(folder), *opts])


def test_the_size_of_the_model_is_logged_and_frozen_parameters_do_not_count(small_digits, tmp_path, caplog):
    with caplog.at_level("INFO"):
        model = builders.build_model(cfg_for(tmp_path, "MODEL.FREEZE", ("backbone.*",)))
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"head"}
    total, part = (
        sum(p.numel() for p in model.parameters() if p.requires_grad or everything) / 1e6
        for everything in (True, False)
    )
    assert f"{total:.2f} M parameters, {part:.2f} M of them trained" in caplog.text


def test_problems_in_the_data_are_dropped_or_refused(small_digits, tmp_path, monkeypatch):
    load = catalog.load_split

    def load_with_problem(*args, **options):
        result = load(*args, **options)
        result.problems.append(Problem(Kind.FILE, "f.json", "is wrong"))
        return result

    monkeypatch.setattr(catalog, "load_split", load_with_problem)
    builders.build_train_loader(cfg_for(tmp_path, "DATASETS.ON_PROBLEM", "drop"))
    with pytest.raises(DatasetProblems, match="is wrong"):
        builders.build_train_loader(cfg_for(tmp_path, "DATASETS.ON_PROBLEM", "refuse"))


def test_only_the_validation_loader_has_boxes(small_digits, tmp_path):
    cfg = cfg_for(tmp_path, "DATASETS.TEST", ("digits_val",))
    scored = [sample for batch in builders.build_test_loader(cfg, "digits_val") for sample in batch]
    measured = [sample for batch in builders.build_validation_loader(cfg) for sample in batch]
    assert [x["file_name"] for x in scored] == [x["file_name"] for x in measured] and len(scored) == 4
    assert not any("instances" in x for x in scored) and all(len(x["instances"]) for x in measured)


def test_evaluators_of_further_datasets_write_to_their_own_folders(small_digits, tmp_path, monkeypatch):
    built = {}
    monkeypatch.setattr(
        builders.EVALUATOR_REGISTRY,
        "build",
        lambda *args, dataset_name, output_dir, **options: built.update({dataset_name: output_dir}),
    )
    cfg = cfg_for(tmp_path, "DATASETS.TEST", ("digits_val", "digits_train"))
    for name in cfg.DATASETS.TEST:
        builders.build_evaluator(cfg, name)
    assert built == {"digits_val": str(tmp_path), "digits_train": str(tmp_path / "digits_train")}
