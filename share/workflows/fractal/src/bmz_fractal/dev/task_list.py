"""The tasks of the manifest: ``fractal-manifest create --package bmz-fractal``."""

from fractal_task_tools.task_models import ParallelTask

AUTHORS = "bmz developers"
DOCS_LINK = "https://github.com/bmz-dev/bmz/tree/main/docs"

TASK_LIST = [
    ParallelTask(
        name="Segment by a model of the BioImage Model Zoo",
        executable="run_model.py",
        category="Segmentation",
        tags=["BioImage Model Zoo", "Deep Learning", "Instance Segmentation"],
        meta={"cpus_per_task": 4, "mem": 8000},
    ),
]
