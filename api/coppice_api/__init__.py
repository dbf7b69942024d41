"""The contract between people, operator and pruner.

Belongs here: the PruneJob and ModelRollout resources, the run contract (RunConfig, Progress, RunReport),
the bundle manifest, and the names they all agree on. Does not belong here: anything that needs more than
pydantic and the standard library, so that anyone can import these types.
"""

from coppice_api.base import Condition, ConditionStatus, Provenance
from coppice_api.bundle import BundleManifest
from coppice_api.constants import ConditionType, ExitCode, Reason
from coppice_api.modelrollout import ModelRollout, ModelRolloutSpec, ModelRolloutStatus
from coppice_api.prunejob import PruneJob, PruneJobSpec, PruneJobStatus
from coppice_api.run import Outcome, Phase, Progress, RunConfig, RunReport

__all__ = [
    "BundleManifest",
    "Condition",
    "ConditionStatus",
    "ConditionType",
    "ExitCode",
    "ModelRollout",
    "ModelRolloutSpec",
    "ModelRolloutStatus",
    "Outcome",
    "Phase",
    "Progress",
    "Provenance",
    "PruneJob",
    "PruneJobSpec",
    "PruneJobStatus",
    "Reason",
    "RunConfig",
    "RunReport",
]
