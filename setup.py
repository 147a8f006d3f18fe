"""What pyproject.toml cannot say: the configs and the cards of the top-level folders are part of the package."""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CARDS = ["README.md", "bccd.yaml", "bccd_voc.yaml", "digits.yaml", "digits_dense.yaml", "digits_few.yaml"]
"""Of datasets/, which holds data and other people's cards, too."""


class BuildWithShippedFiles(build_py):
    """Copies the configs and cards into the package, from where :func:`retina_plugin.paths.shipped` takes them."""

    def run(self) -> None:
        """Build the modules, then copy; an editable installation finds the folders where they are."""
        super().run()
        if self.editable_mode:
            return
        for file in shipped_files():
            target = Path(self.build_lib, "retina_plugin", "shipped", file.relative_to(ROOT))
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(file), str(target))


def shipped_files() -> list[Path]:
    """Return the files of the top-level folders that belong to the package."""
    configs = sorted(file for file in (ROOT / "configs").rglob("*") if file.suffix in (".yaml", ".py"))
    return [*configs, *(ROOT / "datasets" / name for name in CARDS)]


setup(
    packages=find_packages(include=["retina_plugin", "retina_plugin.*"]),
    package_data={"retina_plugin": ["py.typed", "report/templates/*.html"]},
    cmdclass={"build_py": BuildWithShippedFiles},
)
