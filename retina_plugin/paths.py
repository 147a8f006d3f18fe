"""Where the files are that come with the package: the configs and the cards of bundled datasets."""

import os
import sys
import sysconfig
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def is_checkout() -> bool:
    """Return whether the package is imported from a checkout, in which configs/ and datasets/ lie beside it."""
    return not (PACKAGE / "shipped").is_dir()


def shipped(name: str) -> Path:
    """Return the path of a file or folder that comes with the package.

    Args:
        name: path from the top level of the repository, such as "configs/finetune.yaml".

    Raises:
        FileNotFoundError: the installation lacks it; `retina doctor` reports that too.
    """
    path = (PACKAGE.parent if is_checkout() else PACKAGE / "shipped") / name
    if not os.path.exists(path):  # unlike Path.exists, false for a name that is too long
        raise FileNotFoundError(
            f"{path} is missing: this installation of retina_plugin is incomplete, install it again"
        )
    return path


def data_folder(card: Path) -> Path:
    """Return the folder that a card's ``root`` is relative to, unless the environment names another.

    That is the folder of the card; for a card of an installed package it is ``datasets/`` in the working directory,
    because data is not written into an installation.

    Args:
        card: path of the dataset card.
    """
    return Path("datasets") if card.resolve().is_relative_to(PACKAGE / "shipped") else card.parent


def is_the_command() -> bool:
    """Return whether this process is the ``retina`` command, or ``python -m retina_plugin``, and no other program.

    A program that merely has the same name is not taken for it: the command lies where Python installs scripts.
    """
    program = Path(sys.argv[0] or "python")
    if program.name == "-m":  # Python looks for the module that -m names
        return "retina_plugin" in sys.orig_argv[1:] and sys.orig_argv[sys.orig_argv.index("retina_plugin") - 1] == "-m"
    folders = {sysconfig.get_path("scripts"), sysconfig.get_path("scripts", f"{os.name}_user")}
    return program.stem in ("retina", "retina-script") and str(program.absolute().parent) in folders
