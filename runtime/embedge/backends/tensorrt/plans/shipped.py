"""Plans built elsewhere: beside a bundle, or in a folder you name. Only signed ones are used."""

from __future__ import annotations

import logging
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from embedge.backends.tensorrt.plans.key import PlanKey
from embedge.backends.tensorrt.plans.record import PLAN, RECORD, Damaged, Plan
from embedge.backends.tensorrt.plans.signature import Trust, Untrusted, sign

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["FOLDER", "find", "ship"]

log = logging.getLogger("embedge.backends.tensorrt.plans")

FOLDER = "plans"
"""The folder of plans in a bundle's directory."""


def find(root: Path, key: PlanKey, trust: Trust) -> Plan | None:
    """Return the signed, undamaged plan for a key. Logs why it skips others, naming both devices or versions.

    Args:
        root: Has one folder per plan.
        key: The wanted plan.
        trust: The trusted public keys.

    Returns:
        The plan; None if no plan fits.
    """
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        vouch = partial(trust.check, folder)
        try:
            record = Plan.load(folder, vouch=vouch).record
            if (record.key.graph, record.key.weights) != (key.graph, key.weights):
                continue  # of another graph
            if differences := record.key.differences(key):
                log.warning("%s: not used: it was built for something else: %s", folder, differences)
                continue
            return Plan.load(folder, key, vouch)
        except (Damaged, Untrusted, OSError) as error:
            log.warning("%s: not used: %s", folder, error)
    return None


def ship(plan: Plan, out: Path, key: Ed25519PrivateKey) -> Path:
    """Copy a plan to OUT/<digest>, sign it, and return that folder."""
    target = out / plan.record.key.digest()
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(plan.file, target / PLAN)
    shutil.copyfile(plan.folder / RECORD, target / RECORD)
    sign(target, key)
    return target
