"""The config that a checkpoint of the plugin contains."""

import pytest
import torch

from retina_plugin.config import CONFIG_KEY, INFO_KEY, config_in_checkpoint


def test_the_config_of_a_checkpoint_is_read_as_data(tmp_path):
    torch.save({"model": {"w": torch.ones(2)}, INFO_KEY: {CONFIG_KEY: "A: {B: 1}\n"}}, tmp_path / "x.pth")
    assert config_in_checkpoint(str(tmp_path / "x.pth")) == {"A": {"B": 1}}


@pytest.mark.parametrize("content", [{"model": {}}, [1, 2], {"retina_plugin": None}, "text", torch.ones(2)])
def test_a_file_of_torch_without_the_plugins_description_has_no_config(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    assert config_in_checkpoint(str(tmp_path / "x.pth")) is None


@pytest.mark.parametrize("data", [b"", b"nothing", b"PK\x03\x04" + b"\0" * 50, b"\x80\x02."])
def test_a_file_that_is_not_a_checkpoint_has_no_config(tmp_path, data):
    (tmp_path / "x.pth").write_bytes(data)
    assert config_in_checkpoint(str(tmp_path / "x.pth")) is None
    for path in (tmp_path / "nowhere.pth", tmp_path, ""):
        assert config_in_checkpoint(str(path)) is None


def test_a_config_that_would_build_objects_is_refused(tmp_path):
    torch.save({INFO_KEY: {CONFIG_KEY: "A: !!python/object/apply:os.getcwd []\n"}}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="the config in .*x.pth, line 1: the tag"):
        config_in_checkpoint(str(tmp_path / "x.pth"))


def test_a_config_that_is_not_a_mapping_is_refused(tmp_path):
    torch.save({INFO_KEY: {CONFIG_KEY: "[1, 2]\n"}}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"the config in .*x.pth holds a list; a mapping"):
        config_in_checkpoint(str(tmp_path / "x.pth"))
