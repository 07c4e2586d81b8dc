from mentallam.pipelines import reporting
from mentallam.pipelines.cv_training import create_pipeline


def test_baselines_are_fitted_once_before_the_folds_that_processes_may_share() -> None:
    """The commands of docs/contracts/cli.md, Several processes: each of the three parts has what it needs."""
    prepared = {"posts", "pairs", "criteria", "groups", "data_statistics", "data_manifest"}
    wanted = {name for name in reporting.create_pipeline(3).inputs() if not name.startswith("params:")}
    pipeline = create_pipeline(3, wanted)
    opening = pipeline.to_nodes("open_cv_run")
    assert [node.name for node in opening.nodes].count("fit_baselines") == 1
    assert "baseline_predictions" in opening.all_outputs()
    for fold in range(3):
        own = pipeline.only_nodes_with_namespaces([f"fold_{fold}"])
        assert {node.namespace for node in own.nodes} == {f"fold_{fold}"}
        assert "baseline_predictions" not in own.inputs()
    closing = pipeline.from_nodes("close_cv_run")
    of_folds = {
        name for fold in range(3) for name in pipeline.only_nodes_with_namespaces([f"fold_{fold}"]).all_outputs()
    }
    assert closing.inputs() <= opening.all_outputs() | of_folds | prepared
    splits = {name for name in pipeline.only_nodes("fit_baselines").inputs() if name.endswith("_split")}
    assert splits == {f"fold_{fold}_split" for fold in range(3)}
