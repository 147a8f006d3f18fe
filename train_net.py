"""Train or evaluate RetinaNet: ``python train_net.py --config-file configs/digits/quickstart.yaml``."""

import warnings

warnings.filterwarnings("ignore", category=FutureWarning, module="torch")  # detectron2 scripts some functions with torch.jit

from detectron2.engine import default_argument_parser  # noqa: E402

from retina_plugin.engine import run  # noqa: E402

if __name__ == "__main__":
    run(default_argument_parser().parse_args())
