"""From a file, a text or a config made by hand to a config that can be built."""

import subprocess
import sys

import pytest
from support import BASE, ROOT, TINY

from detectron2.config import get_cfg
from detectron2.modeling import build_model

from retina_plugin import add_retina_config, load_config, ready_config
from retina_plugin.config import KEYS, config_from_text, dump_config, get_key, set_key
from retina_plugin.config.detectron2_keys import DETECTRON2_KEYS
from retina_plugin.config.values import Number

CPU = ["MODEL.DEVICE", "cpu"]
DIGITS = ROOT / "configs/digits/quickstart.yaml"


def test_a_saved_config_loads_without_its_base_and_does_not_change(tmp_path):
    cfg = load_config(DIGITS, [*CPU, "SOLVER.IMS_PER_BATCH", "4"])
    text = dump_config(cfg)
    assert text.startswith("NEEDS_IMPORT_RETINA_PLUGIN: 1\n")
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    assert dump_config(load_config(tmp_path / "config.yaml")) == dump_config(config_from_text(text)) == text
    assert cfg.is_frozen()


@pytest.mark.slow
def test_without_the_plugin_a_config_is_refused_with_a_key_that_says_why():
    program = f"from detectron2.config import get_cfg; get_cfg().merge_from_file({str(DIGITS)!r})"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode != 0
    assert "Non-existent config key: NEEDS_IMPORT_RETINA_PLUGIN" in result.stderr


def test_yaml_that_would_run_code_is_refused(tmp_path):
    (tmp_path / "bad.yaml").write_text("OUTPUT_DIR: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(Exception, match=r"bad.yaml, line 1: the tag .* is not allowed"):
        load_config(tmp_path / "bad.yaml")


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        load_config("nowhere.yaml")


def test_all_unknown_keys_are_listed_with_the_nearest_known_ones(tmp_path):
    text = f"_BASE_: {BASE}\nMODEL:\n  RETINANET:\n    NUM_CLASES: 3\nSOLVR:\n  BASE_LR: 0.1\n"
    (tmp_path / "typo.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as error:
        load_config(tmp_path / "typo.yaml", ["BASE_LR", "0.1"])
    message = str(error.value)
    assert "MODEL.RETINANET.NUM_CLASES; did you mean MODEL.RETINANET.NUM_CLASSES?" in message
    assert "SOLVR.BASE_LR; did you mean SOLVER.BASE_LR?" in message
    assert "unknown key BASE_LR; did you mean SOLVER.BASE_LR?" in message


def test_a_value_of_the_wrong_type_names_its_key():
    with pytest.raises(ValueError, match="MODEL.RETINANET.LEVELS"):
        load_config(DIGITS, ["MODEL.RETINANET.LEVELS", "abc"])


def test_options_come_in_pairs():
    with pytest.raises(ValueError, match="pairs"):
        load_config(DIGITS, ["SOLVER.MAX_ITER"])


@pytest.mark.parametrize(
    "key, value, want",
    [
        ("MODEL.RETINANET.FOCAL_LOSS_GAMMA", 2, 2.0),
        ("MODEL.RETINANET.FOCAL_LOSS_GAMMA", "2", 2.0),
        ("SOLVER.BASE_LR", "1e-3", 0.001),
        ("SOLVER.BASE_LR", 1, 1.0),
        ("INPUT.COLOR_JITTER", 0, 0.0),
        ("INPUT.MIN_SIZE_TRAIN", "[640, 800]", (640, 800)),
        ("MODEL.PIXEL_STD", [1, 1, 1], [1.0, 1.0, 1.0]),
        ("DATASETS.TRAIN", ["a"], ("a",)),
        ("OUTPUT_DIR", "2024", "2024"),
        ("OUTPUT_DIR", "'quoted'", "quoted"),
        ("TEST.REPORT", "false", False),
        ("TEST.REPORT", "True", True),
        ("SOLVER.WEIGHT_DECAY_BIAS", 0, 0),
    ],
)
def test_equivalent_values_are_converted_to_the_type_of_the_key(key, value, want):
    got = get_key(load_config(BASE, [*TINY, key, value]), key)
    assert got == want and type(got) is type(want)


RULES = {key: record.rule for key, record in {**KEYS, **DETECTRON2_KEYS}.items()}
FLOATS = [key for key, rule in RULES.items() if isinstance(rule, Number) and rule.kind is float]


@pytest.mark.parametrize("key", FLOATS)
def test_every_float_key_accepts_an_integer_of_its_range(key):
    value = next((n for n in (1, 0, 2) if RULES[key].allows(n)), None)
    if value is not None:
        needed = ["SOLVER.BASE_LR", 10.0] if key == "SOLVER.BASE_LR_END" else []
        assert type(get_key(load_config(BASE, [*TINY, *needed, key, value]), key)) is float


BAD = {
    "MODEL.FPN.BIFPN_LAYERS": 0, "MODEL.FPN.EXTRA_CONVS": -1, "MODEL.ANCHOR_GENERATOR.SCALE": 0.0,
    "MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE": 0, "MODEL.RETINANET.ATSS_TOPK": 0, "INPUT.COLOR_JITTER": -1.0,
    "INPUT.RANDOM_FLIP": "sideways", "MODEL.FPN.TOP_BLOCK": "nope", "SOLVER.BASE_LR": float("inf"),
    "SOLVER.MOMENTUM": float("nan"), "SOLVER.WEIGHT_DECAY": -1, "SOLVER.GAMMA": "fast", "SOLVER.STEPS": (20, 10),
    "SOLVER.MAX_ITER": 0, "SOLVER.IMS_PER_BATCH": 0, "SOLVER.CHECKPOINT_PERIOD": 0,
    "SOLVER.LR_SCHEDULER_NAME": "Cosine", "SOLVER.WARMUP_METHOD": "slow",
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "full_model", "SOLVER.AMP.PRECISION": "fp8", "MODEL.RETINANET.NORM": "CycleBN",
    "MODEL.FPN.NORM": "bn", "MODEL.RETINANET.CLS_LOSS": "focl", "MODEL.RETINANET.ASSIGNER": "iou",
    "MODEL.RETINANET.HEAD_NAME": "x", "MODEL.FPN.NAME": "bifnp", "MODEL.FPN.FUSE_TYPE": "max",
    "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "l7", "MODEL.BOTTOM_UP.NAME": "resnet", "MODEL.BACKBONE.NAME": "x",
    "MODEL.ANCHOR_GENERATOR.NAME": "x", "MODEL.META_ARCHITECTURE": "Nope", "MODEL.DEVICE": "gpu",
    "MODEL.RESNETS.DEPTH": 51, "MODEL.RETINANET.LEVELS": [3, 5], "MODEL.RETINANET.IOU_LABELS": [0, 2],
    "INPUT.CROP.TYPE": "square", "INPUT.MIN_SIZE_TRAIN": (-1,), "INPUT.MAX_SIZE_TRAIN": -5, "INPUT.MIN_SIZE_TEST": -1,
    "INPUT.FORMAT": "GBR", "INPUT.MIN_SIZE_TRAIN_SAMPLING": "any",
    "DATALOADER.SAMPLER_TRAIN": "RandomSubsetTrainingSampler", "DATALOADER.NUM_WORKERS": -1, "DATASETS.TEST": "x",
    "DATASETS.TRAIN": [1], "TEST.DETECTIONS_PER_IMAGE": 0, "TEST.EVAL_PERIOD": -1, "MODEL.COMPILE": ["neck"],
    "MODEL.PIXEL_STD": [0, 1, 1], "SEED": 2**40, "OUTPUT_DIR": "", "MODEL.RETINANET.NUM_CLASSES": -1,
    "MODEL.RETINANET.PRIOR_PROB": 1, "MODEL.RETINANET.SCORE_THRESH_TEST": 1.0,
    "MODEL.RETINANET.BBOX_REG_WEIGHTS": (1, 1, 1), "VERSION": 1, "NEEDS_IMPORT_RETINA_PLUGIN": 2,
    "MODEL.BACKBONE.FREEZE_AT": 6, "SOLVER.OPTIMIZER": "Adam", "SOLVER.EPOCHS": 1.5, "TEST.REPORT": "maybe",
}  # fmt: skip
"""Values that no config may have."""


@pytest.mark.parametrize("key", BAD)
def test_a_bad_value_is_refused_with_key_and_value(key):
    with pytest.raises(ValueError) as error:
        load_config(BASE, [*TINY, key, BAD[key]])
    value = BAD[key][0] if isinstance(BAD[key], (list, tuple)) else BAD[key]
    assert f"{key} " in str(error.value) and str(value) in str(error.value)


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e999"])
def test_a_learning_rate_in_a_file_must_be_finite(tmp_path, value):
    (tmp_path / "x.yaml").write_text(f"_BASE_: {BASE}\nSOLVER:\n  BASE_LR: {value}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"SOLVER.BASE_LR is .*it must be a finite number above 0 .*x.yaml, line 3\)"):
        load_config(tmp_path / "x.yaml", TINY)


@pytest.mark.parametrize(
    "text, message",
    [
        ("MODEL: 5\n", "MODEL is a section of keys"),
        ("MODEL: {FPN: x}\n", "MODEL.FPN is a section"),
        ("SOLVER: {BASE_LR: {a: 1}}\n", "unknown key SOLVER.BASE_LR.a; did you mean SOLVER.BASE_LR?"),
        ("SOLVER: {BASE_LR: }\n", "SOLVER.BASE_LR is None"),
        ("OUTPUT_DIR: 2024\n", "Put it in quotes: '2024'"),
        ("OUTPUT_DIR: 2024-01-01\n", "OUTPUT_DIR is a date, '2024-01-01'; put it in quotes"),
        ("solver: {base_lr: 0.1}\n", "unknown key solver.base_lr; did you mean SOLVER.BASE_LR?"),
        ("MODEL: {ROI_HEADS: {NUM_CLASSES: many}}\n", "must be of type int"),
    ],
)
def test_a_mistake_in_a_file_is_reported_with_its_line(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(f"_BASE_: {BASE}\n{text}", encoding="utf-8")
    with pytest.raises(ValueError) as error:
        load_config(tmp_path / "x.yaml", TINY)
    assert message in str(error.value) and "x.yaml, line 2" in str(error.value)


def test_a_section_that_is_left_empty_sets_nothing(tmp_path):
    text = f"_BASE_: {BASE}\nMODEL:\nSOLVER:\n  # nothing yet\n"
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert load_config(tmp_path / "x.yaml", TINY) == load_config(BASE, TINY)


def test_an_unknown_key_in_a_checkpoint_is_ignored_with_a_warning(caplog):
    text = dump_config(load_config(BASE, TINY)).replace("SOLVER:\n", "SOLVER:\n  OF_TOMORROW: 1\n", 1)
    assert config_from_text(text) == load_config(BASE, TINY)
    assert "has unknown keys, which are ignored: SOLVER.OF_TOMORROW" in caplog.text


def made_detectron2s_way(file, **changes):
    cfg = get_cfg()
    add_retina_config(cfg)
    cfg.merge_from_file(str(file))
    for key, value in {"MODEL.DEVICE": "cpu", "DATALOADER.NUM_WORKERS": 0, **changes}.items():
        set_key(cfg, key, value)
    return cfg


def test_a_config_made_detectron2s_way_becomes_what_load_config_makes(small_digits):
    data = {"DATASETS.TRAIN": ("digits_train",), "DATASETS.TEST": ("digits_val",)}
    for file in (DIGITS, ROOT / "configs/finetune.yaml"):
        opts = [*CPU, "DATALOADER.NUM_WORKERS", 0]
        for key, value in data.items():
            opts += [key, value]
        cfg = made_detectron2s_way(file, **data)
        before = cfg.clone()
        assert ready_config(cfg) == load_config(file, opts) and ready_config(cfg).is_frozen()
        assert cfg == before, "the caller's config is not modified"
        assert ready_config(ready_config(cfg)) == ready_config(cfg)


def test_a_config_that_was_changed_after_loading_is_resolved_again(small_digits):
    cfg = load_config(DIGITS, CPU).clone()
    cfg.defrost()
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR = 4, 1
    assert ready_config(cfg).SOLVER.MAX_ITER == 2000 and ready_config(cfg).SOLVER.BASE_LR == 0.5


def test_values_that_were_set_in_python_are_checked(small_digits):
    for key, value in {
        "DATASETS.TEST": ("digits_val"),
        "SOLVER.BASE_LR": float("nan"),
        "MODEL.FPN.BIFPN_LAYERS": 0,
    }.items():
        with pytest.raises(ValueError, match=f"{key} is "):
            ready_config(made_detectron2s_way(DIGITS, **{key: value}))
    with pytest.raises(ValueError, match="lacks keys of the plugin.*add_retina_config"):
        ready_config(get_cfg())


def test_a_model_refuses_an_unresolved_config(small_digits, tmp_path):
    cfg = made_detectron2s_way(
        ROOT / "configs/finetune.yaml", **{"DATASETS.TRAIN": ("digits_train",), "OUTPUT_DIR": str(tmp_path)}
    )
    with pytest.raises(ValueError, match=r"not resolved yet: .*NUM_CLASSES 0 -> 10.*ready_config\(cfg\)"):
        build_model(cfg)
    cfg.MODEL.RETINANET.NUM_CLASSES = 10
    with pytest.raises(ValueError, match="not resolved yet: MODEL.PIXEL_MEAN"):
        build_model(cfg)
    with pytest.raises(ValueError, match="DATASETS.TEST is 'digits_val'"):
        build_model(made_detectron2s_way(DIGITS, **{"DATASETS.TEST": "digits_val"}))
    build_model(ready_config(cfg))


def test_training_is_refused_before_it_starts_if_a_dataset_is_missing():
    cfg = load_config(
        BASE, [*TINY, "SOLVER.EPOCHS", 3, "DATASETS.TRAIN", ("nowhere",), "DATASETS.TEST", ("digits_vall",)]
    )
    with pytest.raises(ValueError, match="DATASETS.TRAIN names nowhere, which is not registered"):
        ready_config(cfg, training=True)
    with pytest.raises(ValueError, match="digits_vall, which is not registered; did you mean digits_val"):
        ready_config(cfg, training=True)
    with pytest.raises(ValueError, match="DATASETS.TRAIN is empty"):
        ready_config(load_config(BASE, TINY), training=True)
