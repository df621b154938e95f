"""Another process that builds a plan in the same cache: `neighbour.py BUNDLE ROOT ACT`.

Says `building` on stdout once its child is at work, and lets it go on when a line comes on stdin.
"""

from __future__ import annotations

import sys
from pathlib import Path

from embedge import Bundle, RuntimeConfig
from embedge.backends.tensorrt.plans.messages import Message, Progress
from embedge.backends.tensorrt.plans.store import PlanStore
from tests.runtime.plans.made import builder, keys


def on_message(message: Message) -> None:
    if isinstance(message, Progress):
        sys.stdout.write("building\n")
        sys.stdout.flush()
        sys.stdin.readline()


bundle, root, act = sys.argv[1:]
builder(PlanStore(Path(root)), on_message, text=act).build(Bundle.load(bundle), keys(), RuntimeConfig())
