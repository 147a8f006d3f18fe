"""Train or evaluate RetinaNet: ``python train_net.py --data FOLDER``, or ``--config-file configs/digits/quickstart.yaml``."""

from retina_plugin.engine import argument_parser, run

if __name__ == "__main__":
    run(argument_parser().parse_args())
