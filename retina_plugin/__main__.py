"""``python -m retina_plugin`` is ``retina``."""

import sys

from retina_plugin.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
