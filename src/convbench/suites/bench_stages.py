"""How long each stage of a pipeline takes on its own, where the pipeline has several."""

from .convbench_common import (
    FULL,
    ROUNDS,
    STAGES,
    TARGETS,
    cell,
    names,
    pipeline_of,
    stages_of,
    timed,
)


def _several_stages(tier):
    return tuple(name for name in names(tier) if len(stages_of(name)) > 1)


class _Stage:
    param_names = ("target", "workload", "stage")
    type = "time"
    unit = "seconds"
    version = "1"

    @cell(ROUNDS, stands=True)
    def track_time(self, target, workload, stage):
        return timed(target, pipeline_of(workload).stages()[stage])


class Smoke(_Stage):
    params = (TARGETS, _several_stages("smoke"), STAGES)


class Standard(_Stage):
    params = (TARGETS, _several_stages("standard"), STAGES)


if FULL:

    class Full(_Stage):
        params = (TARGETS, _several_stages("full"), STAGES)


# n/a by nature, so there is no evidence for them: asv does not even call the body.
_Stage.skip_params = [
    (target, workload, stage)
    for suite in _Stage.__subclasses__()
    for target in TARGETS
    for workload in suite.params[1]
    for stage in STAGES
    if stage not in stages_of(workload)
]
