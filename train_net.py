"""Train or evaluate RetinaNet: ``python train_net.py --config-file configs/digits/quickstart.yaml``."""

from detectron2.engine import default_argument_parser

from retina_plugin.engine import run

if __name__ == "__main__":
    run(default_argument_parser().parse_args())
