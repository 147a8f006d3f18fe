"""``python -m retina_plugin`` is ``retina``."""

import sys

from retina_plugin.cli.main import main

sys.exit(main())
