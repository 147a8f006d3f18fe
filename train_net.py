"""Train or evaluate RetinaNet: ``python train_net.py --data FOLDER``; ``--help`` shows more."""

import sys

from retina_plugin.engine import argument_parser, exit_code, run

if __name__ == "__main__":
    sys.exit(exit_code(lambda: run(argument_parser().parse_args()) and 0))
