"""Train or evaluate RetinaNet: ``python train_net.py --config-file configs/digits/quickstart.yaml``."""

from retina_plugin.engine import run  # isort: skip  (first, since importing the plugin fills the registries)
from detectron2.engine import default_argument_parser

if __name__ == "__main__":
    run(default_argument_parser().parse_args())
