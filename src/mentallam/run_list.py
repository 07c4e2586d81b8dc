"""The latest cross-validations of an experiment, for a list on the screen."""

import time
from dataclasses import dataclass

from mlflow.entities import Run

from mentallam.run_status import PARENT_RUN_TAG
from mentallam.tracking import POOLED_F1, STUDY_TAG
from mentallam.tracking_client import retrying_client


@dataclass(frozen=True)
class CvRunFacts:
    """A cross-validation for a list of them: F1 and TF-IDF's are None until it is reported or its folds are in.

    Attributes:
        run_id: Its run.
        experiment_id: The experiment of the run.
        name: The run's name.
        began: Local time, to the minute.
        status: MLflow's status.
        f1: F1 pooled over all held-out pairs.
        tfidf_f1: Mean F1 of TF-IDF over the folds.
        seconds: From its beginning to its end, pauses included; None while it is open.
    """

    run_id: str
    experiment_id: str
    name: str
    began: str
    status: str
    f1: float | None
    tfidf_f1: float | None
    seconds: float | None


def latest_cv_runs(experiment: str, most: int, study: str | None = None) -> list[CvRunFacts]:
    """Return the latest cross-validations of an experiment, the newest first.

    Args:
        experiment: The name of an MLflow experiment.
        most: How many at most.
        study: The study that they belong to; None for all.
    """
    client = retrying_client()
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    wanted = "tags.`mentallam.data_hash` != ''"  # a run of something else has none
    runs: list[Run] = []
    page_token: str | None = None
    while len(runs) < most:
        page = client.search_runs(
            [found.experiment_id], wanted, order_by=["start_time DESC"], max_results=1000, page_token=page_token
        )
        parents = (run for run in page if PARENT_RUN_TAG not in run.data.tags)
        runs += [run for run in parents if study in (None, run.data.tags.get(STUDY_TAG))]
        if not (page_token := page.token):
            break
    return [_facts_of(run) for run in runs[:most]]


def _facts_of(run: Run) -> CvRunFacts:
    info, metrics = run.info, run.data.metrics
    return CvRunFacts(
        run_id=info.run_id,
        experiment_id=info.experiment_id,
        name=str(info.run_name),
        began=time.strftime("%Y-%m-%d %H:%M", time.localtime(info.start_time / 1000)),
        status=info.status,
        f1=metrics.get(POOLED_F1),
        tfidf_f1=metrics.get("baseline_tfidf_f1_mean"),
        seconds=(info.end_time - info.start_time) / 1000 if info.end_time else None,
    )
