"""Run the host tool as a module: ``python -m slipway_release``."""

import sys

from slipway_release.command_line import main

sys.exit(main())
