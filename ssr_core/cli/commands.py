"""What the subcommands share: the parser they add themselves to, and which methods learn."""

from __future__ import annotations

import argparse
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
LEARNED = ("lasr", "textual-inversion")
"""Methods that learn each concept first."""
