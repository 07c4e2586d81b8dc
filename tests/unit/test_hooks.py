import pytest
from kedro.io import DataCatalog, MemoryDataset

from mentallam import hooks
from mentallam.datasets import ReportInputDataset
from mentallam.errors import MentallamError


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the run `feed` holds: three folds."""
    names = [*(f"fold_{fold}_predictions" for fold in range(3)), "criteria"]
    kept = {name: f"report_inputs/{name}.parquet" for name in names}
    monkeypatch.setattr(hooks, "find_report_inputs", lambda run_id: kept)
    return kept


def test_what_is_wanted_is_taken_from_the_run_and_the_rest_left_alone(kept: dict[str, str]) -> None:
    catalog = DataCatalog({"criteria": MemoryDataset("of today"), "posts": MemoryDataset("of today")})
    hooks._take_from_run("feed", set(kept), catalog)
    assert catalog.load("posts") == "of today"
    for name, path in kept.items():
        dataset = catalog[name]
        assert isinstance(dataset, ReportInputDataset)
        assert dataset._describe() == {"run_id": "feed", "path": path}


def test_another_number_of_folds_names_the_setting(kept: dict[str, str]) -> None:
    wanted = {f"fold_{fold}_predictions" for fold in range(5)}
    with pytest.raises(MentallamError, match="has 3 folds, and this project is set to 5: set MENTALLAM_CV_FOLDS=3"):
        hooks._take_from_run("feed", wanted, DataCatalog())
    catalog = DataCatalog()
    hooks._take_from_run("feed", {"criteria"}, catalog)  # a part of the pipeline that reads no fold
    assert catalog.keys() == ["criteria"]


def test_what_an_older_run_lacks_is_named(kept: dict[str, str]) -> None:
    with pytest.raises(MentallamError, match="cv_run_id=feed holds no baseline_predictions: it was made by an older"):
        hooks._take_from_run("feed", {*kept, "baseline_predictions"}, DataCatalog())
