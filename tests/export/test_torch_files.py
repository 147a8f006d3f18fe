"""Files of torch: what is no such file is refused by name. What they detect is tested with the command."""

import pytest
import torch

from retina_plugin.export.runtime import ExportedModel


@pytest.mark.parametrize("suffix", [".ts", ".pt2"])
def test_a_damaged_file_is_refused(tmp_path, suffix):
    file = tmp_path / f"x{suffix}"
    file.write_bytes(b"no file of torch")
    with pytest.raises(ValueError, match="is not a .* file, or it is damaged"):
        ExportedModel(file)


def test_a_script_of_other_origin_is_refused(tmp_path):
    file = tmp_path / "x.ts"
    torch.jit.save(torch.jit.script(torch.nn.Identity()), str(file))
    with pytest.raises(ValueError, match="was not written by `retina export`"):
        ExportedModel(file)
