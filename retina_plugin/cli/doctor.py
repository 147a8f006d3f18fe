"""``retina doctor``: what is installed, whether it works together, and the command that fixes what does not."""

import argparse
import importlib
import importlib.metadata
import platform
import sys
import warnings
from dataclasses import dataclass
from types import ModuleType

DETECTRON2 = "make setup   (or see the README for a build from detectron2's own repository)"
REINSTALL = "make setup in a checkout, or pip install --force-reinstall --no-deps retina_plugin-*.whl"
REQUIRED = {
    "torch": "pip install torch==2.14.1",
    "torchvision": "pip install torchvision==0.29.1",
    "cv2": "pip install opencv-python",
    "PIL": "pip install pillow",
    "numpy": "pip install numpy",
    "pycocotools": "pip install pycocotools",
    "hotcoco": "pip install hotcoco",
    "fvcore": "pip install fvcore",
    "timm": "pip install timm",
}
"""Modules without which the plugin cannot work, and how to get them."""
DISTRIBUTIONS = {"cv2": "opencv-python", "PIL": "pillow"}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        name: what was looked at.
        value: what was found.
        fix: the command that fixes it; None if nothing is wrong.
        fatal: the plugin cannot work without.
    """

    name: str
    value: str
    fix: str | None = None
    fatal: bool = False


EXAMPLE = "retina doctor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand has no options."""


def run(args: argparse.Namespace) -> int:
    """Print the findings; 1 if the plugin cannot work here, else 0."""
    findings = examine()
    for finding in findings:
        verdict = "OK" if finding.fix is None else ("FAILS" if finding.fatal else "note")
        print(f"{finding.name:<22} {verdict:<6} {finding.value}")
        if finding.fix:
            print(f"{'':<29} -> {finding.fix}")
    fatal = sum(finding.fatal for finding in findings)
    print(
        f"\n{fatal} thing{'s' if fatal != 1 else ''} to fix before the plugin can work"
        if fatal
        else "\nthe plugin can work here"
    )
    return 1 if fatal else 0


def examine() -> list[Finding]:
    """Look at Python, the required modules, Detectron2, the device, and the plugin itself, in this order."""
    too_old = sys.version_info < (3, 10)
    findings = [
        Finding(
            "Python",
            f"{platform.python_version()}, {sys.executable}",
            "use Python 3.10 or newer" if too_old else None,
            too_old,
        )
    ]
    findings += [_module(name, fix) for name, fix in REQUIRED.items()]
    findings += _detectron2()
    if any(finding.fatal for finding in findings):
        return [
            *findings,
            Finding("retina_plugin", "not tried, because of the above", "fix the above first", fatal=True),
        ]
    plugin = _plugin()
    return [*findings, plugin] if plugin.fatal else [*findings, plugin, _files(), *_device()]


def _module(name: str, fix: str) -> Finding:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 (a broken binary raises anything, and reporting it is the purpose)
        return Finding(name, f"cannot be imported: {type(error).__name__}: {error}", fix, fatal=True)
    try:
        version = importlib.metadata.version(DISTRIBUTIONS.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        version = getattr(module, "__version__", "unknown version")
    return Finding(name, f"{version}, {_folder(module)}")


def _folder(module: ModuleType) -> str:
    return (module.__file__ or "").removesuffix("/__init__.py")


def _detectron2() -> list[Finding]:
    found = _module("detectron2", DETECTRON2)
    if found.fatal:
        return [found]
    owners = importlib.metadata.packages_distributions().get("detectron2", ["its own source tree"])
    findings = [Finding("detectron2", f"{found.value}, from {', '.join(sorted(set(owners)))}")]
    try:
        importlib.import_module("detectron2._C")
        findings.append(Finding("detectron2._C", "loads: compiled operators are available"))
    except ImportError as error:
        findings.append(Finding("detectron2._C", f"absent, and not needed by RetinaNet ({str(error)[:60]})"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is deprecated is known
            importlib.import_module("pkg_resources")
    except ImportError:
        findings.append(
            Finding("pkg_resources", "missing; detectron2.model_zoo imports it", "pip install 'setuptools<81'")
        )
    return findings


def _device() -> list[Finding]:
    import torch

    from retina_plugin.modeling.precision import fast_bf16

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        findings = [Finding("CUDA", f"{torch.version.cuda}: {names}")]
        device = torch.device("cuda")
    else:
        threads = f"{torch.get_num_threads()} CPU threads ({torch.backends.cpu.get_cpu_capability()})"
        findings = [Finding("CUDA", f"no GPU; training runs on {threads}")]
        device = torch.device("cpu")
    if fast_bf16(device):
        return [*findings, Finding("bf16", f"fast on this {device.type}; precision 'auto' is bf16")]
    auto = "fp16" if device.type == "cuda" else "fp32"
    return [*findings, Finding("bf16", f"not fast on this {device.type}; precision 'auto' is {auto}")]


def _files() -> Finding:
    """Look for the configs and cards that come with the package."""
    from retina_plugin.paths import shipped

    try:
        configs = len(list(shipped("configs").rglob("*.yaml")))
        cards = len(list(shipped("datasets").glob("*.yaml")))
        shipped("configs/finetune.yaml")
    except FileNotFoundError as error:
        return Finding("configs and cards", str(error), REINSTALL, fatal=True)
    return Finding("configs and cards", f"{configs} configs and {cards} dataset cards, {shipped('configs').parent}")


def _plugin() -> Finding:
    try:
        plugin = importlib.import_module("retina_plugin")
        plugin.fill_registries()
        from detectron2.modeling import META_ARCH_REGISTRY

        registered = "RetinaPluginNet" in META_ARCH_REGISTRY
    except Exception as error:  # noqa: BLE001 (as above)
        return Finding("retina_plugin", f"{type(error).__name__}: {error}", REINSTALL, fatal=True)
    return Finding(
        "retina_plugin",
        f"{plugin.__version__}, {_folder(plugin)}",
        None if registered else REINSTALL,
        fatal=not registered,
    )
