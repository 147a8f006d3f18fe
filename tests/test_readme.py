"""What the README says is so."""

import json
import re
import subprocess

import pytest
import yaml
from support import ROOT

from retina_plugin import add_retina_config
from retina_plugin.config import all_keys
from retina_plugin.data.card import DatasetCard
from retina_plugin.registry import SLOTS

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "datasets/README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_pictures_lead_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if not link.startswith("http")]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_key_that_is_named_exists(page):
    from detectron2.config import get_cfg

    cfg = get_cfg()
    add_retina_config(cfg)
    keys = all_keys(cfg)
    keys += [
        section for registry in SLOTS.values() if (section := registry.section)
    ]  # of options that variants declare
    text = re.sub(
        r"\b[A-Z_.]*TEMPERED_TEMPERATURE|SOLVER.HOOK_OPTIONS.\w+", "", page.read_text()
    )  # declared by the example
    named = set(re.findall(r"\b(?:MODEL|SOLVER|INPUT|DATASETS|DATALOADER|TEST)(?:\.[A-Z0-9_]+)+", text))
    assert sorted(key for key in named if key not in keys and not any(k.startswith(key + ".") for k in keys)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_config_that_is_named_exists(page):
    named = re.findall(r"configs/(?!COCO-Detection/)[\w./-]+\.yaml", page.read_text())  # that folder is Detectron2's
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_card_in_the_datasets_readme_is_one(tmp_path):
    (tmp_path / "pets.yaml").write_text(
        re.search(r"```yaml\n(.*?)```", (ROOT / "datasets/README.md").read_text(), re.S)[1]
    )
    assert DatasetCard.from_file(tmp_path / "pets.yaml").classes == ["cat", "dog"]
    assert yaml.safe_load((tmp_path / "pets.yaml").read_text())["name"] == "pets"


def test_the_python_in_the_readme_compiles_and_the_make_targets_exist():
    for block in re.findall(r"```python\n(.*?)```", README + (ROOT / "docs/architecture.md").read_text(), re.S):
        compile(block, "README.md", "exec")
    for target in set(re.findall(r"^make (\w+)", README, re.M)):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_ci_runs_what_the_readme_says():
    """Each command of CI is one that README.md or CONTRIBUTING.md gives to people."""
    said = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    commands = re.findall(r"^make [\w-]+$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.M)
    assert commands and all(re.search(rf"{command}\b", said) for command in commands)


def test_the_figures_of_the_research_page_are_those_of_its_sweep():
    page = (ROOT / "docs/research.md").read_text(encoding="utf-8")
    rows = {
        row["labels"][0]: row for row in json.loads((ROOT / "docs/research.json").read_text(encoding="utf-8"))["rows"]
    }
    none = rows["none"]["values"]["AP"]
    assert all(
        rows[name]["values"]["AP"] == none
        for name in ("gradient checkpointing", "losses and norms logged every 20", "deterministic")
    )
    for name, said in (
        ("LAYER_DECAY 0.8", "38.6 against 46.0 AP"),
        ("backbone frozen by name", "35.1 against 46.0 AP"),
        ("last 100 weights averaged", "45.8 against 46.0 AP"),
    ):
        assert said in page and said == f"{rows[name]['values']['AP'][0]:.1f} against {none[0]:.1f} AP"
    less, full = (rows[name]["peak_memory_mib"] for name in ("gradient checkpointing", "none"))
    assert f"{less:,.0f} instead of {full:,.0f} MiB" in page
