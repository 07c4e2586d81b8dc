"""What MLflow's page of an experiment shows: a note, and a view of the runs with the columns that matter."""

import json

from mentallam.tracking_client import retrying_client

COLUMNS = (
    "tags.`mentallam.corpus`",
    "metrics.`data_posts`",
    "params.`profile`",
    "tags.`env`",
    "metrics.`pooled_f1`",
    "metrics.`pooled_f1_low`",
    "metrics.`pooled_f1_high`",
    "metrics.`pooled_roc_auc`",
    "metrics.`best_baseline_f1`",
    "tags.`mentallam.best_baseline`",
    "metrics.`baseline_tfidf_pooled_f1`",
    "metrics.`duration_s`",
    "metrics.`f1`",  # of the folds, below their cross-validation
)
"""The columns of the view, as MLflow's page names them. docs/tracking.md says what each is."""

VIEW = "mentallam"
"""Key of the view, at the end of its address."""

# Tags that MLflow's page reads: the note, and a view that it opens if an address names its key.
_NOTE_TAG = "mlflow.note.content"
_VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
_NOTE = f"""Cross-validations of mentallam. Each is a run with a child run per fold; its note says what came out, and its artifacts hold the report.

[List of runs](#/experiments/{{id}}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}): MLflow opens the experiment in another view, which shows none.

Research screening, never a diagnosis."""  # noqa: E501  # MLflow shows line breaks


def describe_experiment(experiment_id: str) -> None:
    """Give an experiment its note and the view of its runs, unless it has them."""
    client = retrying_client()
    tags = client.get_experiment(experiment_id).tags
    view = json.dumps({"selectedColumns": COLUMNS})
    for name, content in ((_NOTE_TAG, _NOTE.format(id=experiment_id)), (_VIEW_TAG, view)):
        if name not in tags:  # a user may have written another
            client.set_experiment_tag(experiment_id, name, content)
