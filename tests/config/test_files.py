"""Reader of config files: bases, lines, and what is refused."""

import shutil
from pathlib import Path

import pytest
from support import BASE, ROOT

from detectron2 import model_zoo

from retina_plugin import load_config
from retina_plugin.config.files import MOST_BASES, read_settings, settings_of

ZOO = Path(model_zoo.__file__).parent / "configs"


NESTED_REFERENCES = "a: &a [1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
"""Seven lists, each with nine references to the one before: 9**7 values once expanded."""


def write(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(texts))}.yaml"


def test_a_file_overrides_its_base_and_values_know_their_line(tmp_path):
    file = write(
        tmp_path,
        child="_BASE_: parent.yaml\nSOLVER:\n  BASE_LR: 0.1\n",
        parent="# a comment\nSOLVER:\n  BASE_LR: 0.2\n  MAX_ITER: 7\n",
    )
    found = read_settings(file)
    assert found["SOLVER.BASE_LR"] == (0.1, f"{file}, line 3")
    assert found["SOLVER.MAX_ITER"] == (7, f"{tmp_path / 'parent.yaml'}, line 4")


def test_a_later_base_overrides_an_earlier_one(tmp_path):
    file = write(
        tmp_path, child="_BASE_: [first.yaml, second.yaml]\nC: 3\n", first="A: 1\nB: 1\n", second="B: 2\nC: 2\n"
    )
    assert {key: setting.value for key, setting in read_settings(file).items()} == {"A": 1, "B": 2, "C": 3}


def test_a_section_replaces_a_value_of_the_base_and_a_value_a_section(tmp_path):
    file = write(tmp_path, child="_BASE_: parent.yaml\nA: {B: 1}\nC: 5\n", parent="A: 3\nC: {D: 1, E: 2}\n")
    assert {key: setting.value for key, setting in read_settings(file).items()} == {"A.B": 1, "C": 5}


def test_an_absolute_base_and_the_home_folder_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, parent="A: 1\n")
    (tmp_path / "deep").mkdir()
    for base in ("~/parent.yaml", tmp_path / "parent.yaml", "../parent.yaml"):
        assert read_settings(write(tmp_path / "deep", child=f"_BASE_: {base}\n"))["A"].value == 1


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("[1]", "holds a list"),
        ("just words", "holds a str"),
        ("a: [", "line "),
        ("A:\n\tB: 1\n", "line 2"),
        ("A: 1\nA: 2\n", "line 2: the key 'A' appears twice"),
        ("A: !!python/object/apply:os.getcwd []\n", "line 1: the tag"),
        ("A: !!python/name:os.system\n", "line 1: the tag"),
        ("A: !mine 1\n", "line 1: the tag"),
        ("A: &x [*x]\n", "line 1"),
        (NESTED_REFERENCES, "expand to more than"),
        ("A: " + "[" * 5000, "nested deeper"),
        ("1: 2\n", "line 1: the key 1 is not a name"),
        ("A: {3: 4}\n", "line 1: the key 3 is not a name"),
        ("null: 2\n", "the key None is not a name"),
        ("MODEL.DEVICE: cpu\n", "write MODEL.DEVICE as nested sections (MODEL: {DEVICE: ...})"),
        ("A: 1\n---\nB: 2\n", "line"),
        ("_BASE_: 5\n", "line 1: _BASE_ must be the path"),
        ("_BASE_: [5]\n", "_BASE_ must be the path"),
        ("_BASE_: {a: b}\n", "_BASE_ must be the path"),
        ("_BASE_: ''\n", "_BASE_ must be the path"),
        ("_BASE_: /tmp\n", "is a folder"),
        ("_BASE_: https://example.org/base.yaml\n", "is a URL"),
        ("_BASE_: http://127.0.0.1:1/base.yaml\n", "is a URL"),
        ("_BASE_: detectron2://base.yaml\n", "is a URL"),
        ("_BASE_: s3://bucket/base.yaml\n", "is a URL"),
        ("_BASE_: pip://os/base.yaml\n", "is a URL"),
        ("_BASE_: /dev/zero\n", "device"),
        ("_BASE_: x.yaml\n", "leads back to itself"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_config_is_refused_with_its_name(tmp_path, text, message):
    file = write(tmp_path, x=text)
    with pytest.raises(ValueError) as error:
        load_config(file)
    assert message in str(error.value) and "x.yaml" in str(error.value)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\x00\x01\x02\x03", b"A: \x80\n", bytes(range(256))])
def test_bytes_that_are_not_text_are_refused(tmp_path, data):
    (tmp_path / "x.yaml").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.yaml"):
        load_config(tmp_path / "x.yaml")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_config_in_a_different_encoding_is_read(tmp_path, encoding):
    text = f"_BASE_: {BASE}\nOUTPUT_DIR: Käfer\nMODEL: {{DEVICE: cpu, RETINANET: {{NUM_CLASSES: 2}}}}\n"
    (tmp_path / "x.yaml").write_text(text, encoding=encoding)
    assert load_config(tmp_path / "x.yaml", ["MODEL.WEIGHTS", "x.pth"]).OUTPUT_DIR == "Käfer"


def test_a_folder_a_url_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        load_config(tmp_path)
    with pytest.raises(ValueError, match="https://example.org/x.yaml is a URL"):
        load_config("https://example.org/x.yaml")
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(FileNotFoundError, match=r"x.yaml: its _BASE_ .*gone.yaml"):
        load_config(write(tmp_path, x="_BASE_: gone.yaml\n"))


def test_a_chain_of_bases_that_is_too_long_or_circular_is_refused(tmp_path):
    write(tmp_path, a="_BASE_: b.yaml\n", b="_BASE_: a.yaml\n")
    with pytest.raises(ValueError, match=r"leads back .*a.yaml -> .*b.yaml -> .*a.yaml"):
        load_config(tmp_path / "a.yaml")
    write(tmp_path, **{f"n{i}": f"_BASE_: n{i + 1}.yaml\n" for i in range(MOST_BASES + 5)})
    with pytest.raises(ValueError, match=f"longer than {MOST_BASES} files"):
        load_config(tmp_path / "n0.yaml")


@pytest.mark.parametrize("name", ["retinanet_R_50_FPN_1x", "retinanet_R_50_FPN_3x", "retinanet_R_101_FPN_3x"])
def test_the_error_for_a_config_of_detectron2s_zoo_names_the_plugins(name):
    with pytest.raises(ValueError) as error:
        load_config(ZOO / f"COCO-Detection/{name}.yaml")
    ours = ROOT / f"configs/coco/{name}.yaml"
    assert f"is a config for Detectron2's RetinaNet, not for the plugin. Use the plugin's {ours}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "file, meant",
    [
        ("Base-RetinaNet.yaml", "configs/Base-RetinaNet.yaml"),
        ("COCO-Detection/retinanet_R_50_FPN_1x.py", "configs/coco/retinanet_R_50_FPN_1x.yaml"),
        ("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml", "configs/coco/retinanet_R_50_FPN_1x.yaml"),
        ("COCO-Detection/fcos_R_50_FPN_1x.py", "configs/coco/retinanet_R_50_FPN_1x.yaml"),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml", "--data FOLDER"),
    ],
)
def test_the_error_for_other_configs_of_detectron2_is_one_line(file, meant):
    with pytest.raises(ValueError) as error:
        load_config(ZOO / file)
    assert meant in str(error.value) and "\n" not in str(error.value)


def test_a_zoo_config_without_its_base_and_a_child_of_one_are_recognised(tmp_path):
    shutil.copy(ZOO / "COCO-Detection/retinanet_R_50_FPN_3x.yaml", tmp_path)
    with pytest.raises(
        FileNotFoundError,
        match=r"Base-RetinaNet.yaml' does not exist .*use the plugin's .*configs/coco/retinanet_R_50_FPN_3x.yaml",
    ):
        load_config(tmp_path / "retinanet_R_50_FPN_3x.yaml")
    with pytest.raises(ValueError, match="a config for Detectron2's RetinaNet"):
        load_config(write(tmp_path, mine=f"_BASE_: {ZOO}/COCO-Detection/retinanet_R_50_FPN_1x.yaml\nSEED: 1\n"))


def test_a_config_of_the_plugin_is_not_taken_for_detectron2s(tmp_path):
    shutil.copy(ROOT / "configs/Base-RetinaNet.yaml", tmp_path)
    (tmp_path / "coco").mkdir()
    for name in ("Base-COCO", "retinanet_R_50_FPN_1x"):
        shutil.copy(ROOT / f"configs/coco/{name}.yaml", tmp_path / "coco")
    assert load_config(tmp_path / "coco/retinanet_R_50_FPN_1x.yaml").MODEL.META_ARCHITECTURE == "RetinaPluginNet"


def test_settings_of_a_text_have_their_source():
    assert settings_of("A: {B: 1}", "the config of x.pth")["A.B"] == (1, "the config of x.pth")
    with pytest.raises(ValueError, match="the config of x.pth"):
        settings_of("[", "the config of x.pth")
