"""For `accelerate launch -m ssr_core.cli train ...`."""

import sys

from . import main

sys.exit(main())
