from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node

from mentallam import device, project
from mentallam.cluster_options import ClusterOptions, cores, start_ray
from mentallam.datasets import FolderDataset, JSONDataset, StorageDataset
from mentallam.errors import MentallamError
from mentallam.runner import FoldRunner, fold_runner
from mentallam.runner.engines import open_engine
from tests.samples import PROJECT


def catalog(**cluster: object) -> DataCatalog:
    return DataCatalog({"parameters": MemoryDataset({"cluster": cluster}), "one": MemoryDataset(1)})


def test_the_file_holds_every_option_with_its_default() -> None:
    given = yaml.safe_load((PROJECT / "conf/base/cluster.yml").read_text(encoding="utf-8"))["cluster"]
    assert given.keys() == ClusterOptions.model_fields.keys()
    defaults = ClusterOptions().model_dump()
    assert {name: value for name, value in given.items() if name != "slurm"} == {
        name: value for name, value in defaults.items() if name != "slurm"
    }


def test_options_of_the_command_replace_those_of_the_file_key_by_key() -> None:
    runner = FoldRunner(backend="process", slurm={"slurm_partition": "gpu"})
    options = runner._options(catalog(backend="ray", retries=7, slurm={"timeout_min": 5}))
    assert (options.backend, options.retries) == ("process", 7)
    assert options.slurm == {"timeout_min": 5, "slurm_partition": "gpu"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"backend": "dask"}, r"^cluster\.backend: .*'process'.*cluster\.yml has the options$"),
        ({"worker": 2}, r"^cluster\.worker: "),
        ({"workers": 0}, r"^cluster\.workers: .*greater than or equal to 1"),
    ],
)
def test_a_wrong_option_is_refused_before_any_node_runs(given: dict[str, object], sentence: str) -> None:
    ran: list[int] = []
    pipeline = Pipeline([node(ran.append, "one", None)])
    with pytest.raises(MentallamError, match=sentence):
        FoldRunner(**given).run(pipeline, catalog())
    assert not ran


def test_a_pipeline_without_folds_runs_in_this_process_whatever_the_backend() -> None:
    ran: list[int] = []
    FoldRunner(backend="slurm").run(Pipeline([node(ran.append, "one", None)]), catalog())
    assert ran == [1]


def test_cores_are_shared_between_the_workers_and_gpus_are_dealt_out(tmp_path: Path) -> None:
    engine = open_engine(ClusterOptions(backend="process"), 5, ["3", "7"], tmp_path)
    assert engine.slots == 2
    variables = [worker.variables for worker in engine._workers]  # type: ignore[attr-defined]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in variables] == ["3", "7"]
    assert {each["OMP_NUM_THREADS"] for each in variables} == {str(max(1, cores() // 2))}
    assert open_engine(ClusterOptions(backend="process"), 1, [], tmp_path).slots == 1
    assert open_engine(ClusterOptions(backend="process", workers=3), 5, [], tmp_path).slots == 3


def test_a_fold_of_several_ranks_gets_a_gpu_for_each(tmp_path: Path) -> None:
    engine = open_engine(ClusterOptions(backend="process"), 5, list("01234567"), tmp_path, ranks=3)
    variables = [worker.variables for worker in engine._workers]  # type: ignore[attr-defined]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in variables] == ["0,1,2", "3,4,5"]
    on_cores = open_engine(ClusterOptions(backend="process"), 5, [], tmp_path, ranks=cores())
    assert on_cores.slots == 1
    assert on_cores._threads == cores()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("backend", "given", "sentence"),
    [
        ("process", {}, r"^training\.ranks=4 needs 4 GPUs, and this machine has 2: lower it$"),
        ("ray", {"gpus_per_fold": 0.5}, r"^training\.ranks=4 needs .*: set cluster\.gpus_per_fold=4 in place of 0\.5$"),
        ("slurm", {"gpus_per_fold": 2}, r"set cluster\.gpus_per_fold=4 in place of 2$"),
    ],
)
def test_fewer_gpus_than_ranks_are_refused(
    backend: str, given: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    options = ClusterOptions.model_validate({"backend": backend, **given})
    with pytest.raises(MentallamError, match=sentence):
        open_engine(options, 5, ["0", "1"], tmp_path, ranks=4)


@pytest.mark.parametrize(("backend", "package"), [("ray", "Ray"), ("slurm", "submitit")])
def test_a_missing_engine_is_named_with_the_command_that_installs_it(
    backend: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package.lower(), None)
    options = ClusterOptions(backend=backend)  # type: ignore[arg-type]
    with pytest.raises(MentallamError, match=rf"needs {package}: pip install -e '\.\[{backend}\]'$"):
        open_engine(options, 5, [], tmp_path)


@pytest.mark.parametrize(("gpus", "placed_elsewhere"), [(["0", "1"], True), (["0"], False), ([], False)])
def test_auto_places_folds_where_there_are_several_gpus_and_runs_the_nodes_around_them_here(
    gpus: list[str], placed_elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def fold(_: object) -> str:
        ran.append("fold in this process")
        return "checkpoint"

    def placed(folds: dict[str, object], _: object, catalog: DataCatalog) -> list[object]:
        ran.append(f"{len(folds)} folds of {fold_runner._ranks(catalog)} ranks placed")
        for k in range(2):
            given.save(f"fold_{k}_checkpoint", "checkpoint")
        return list(folds.values())

    monkeypatch.setattr(fold_runner, "_placed", placed)
    monkeypatch.setattr(device, "visible_gpus", lambda: gpus)
    folds = [node(fold, "cv_run", f"fold_{k}_checkpoint", name="train", namespace=f"fold_{k}") for k in range(2)]
    pipeline = Pipeline(
        [
            node(lambda one: ran.append("before") or one, "one", "cv_run", name="before"),
            *folds,
            node(lambda *_: ran.append("after"), ["fold_0_checkpoint", "fold_1_checkpoint"], None, name="after"),
        ]
    )
    given = catalog(backend="auto")
    given["training_config"] = MemoryDataset(SimpleNamespace(training=SimpleNamespace(ranks=3)), copy_mode="assign")
    FoldRunner().run(pipeline, given)
    trained = ["2 folds of 3 ranks placed"] if placed_elsewhere else ["fold in this process"] * 2
    assert ran == ["before", *trained, "after"]


def test_a_pipeline_without_folds_asks_for_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting them imports torch, which data processing does without."""
    monkeypatch.setattr(device, "visible_gpus", lambda: pytest.fail("it asked"))
    FoldRunner(backend="auto").run(Pipeline([node(lambda one: None, "one", None)]), catalog())


class NoRay:
    """A package of Ray whose processes do not find each other."""

    starts = 0

    def is_initialized(self) -> bool:
        return False

    def shutdown(self) -> None:
        pass

    def init(self, *given: object, **options: object) -> None:
        self.starts += 1
        raise Exception("timed out\nand more")  # Ray raises it itself


@pytest.mark.parametrize(
    ("address", "starts", "sentence"),
    [
        (None, 3, r"^Ray does not start here \(timed out\)$"),
        ("auto", 1, r"^no Ray cluster answers at cluster\.address=auto \(timed out\)$"),
    ],
)
def test_a_ray_that_does_not_start_is_tried_again_and_a_cluster_that_does_not_answer_is_not(
    address: str | None, starts: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = NoRay()
    monkeypatch.setitem(__import__("sys").modules, "ray", package)
    with pytest.raises(MentallamError, match=sentence):
        start_ray(ClusterOptions(backend="ray", address=address))
    assert package.starts == starts


def test_an_address_for_other_machines_is_refused_where_folds_stay_here() -> None:
    pipeline = Pipeline([node(lambda one: one, "one", "fold_0_checkpoint", name="train")])
    with pytest.raises(MentallamError, match=r"^cluster\.storage is for folds on other machines: set cluster\.backend"):
        FoldRunner(backend="sequential", storage="file:///tmp").run(pipeline, catalog())


def test_an_address_for_other_machines_needs_a_tracking_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    session = project.Session(tmp_path, None, {}, "conf", tmp_path)
    with pytest.raises(MentallamError, match=r"^cluster\.storage needs a tracking server: set MLFLOW_TRACKING_URI"):
        fold_runner._stored({}, "file:///tmp", catalog(), session)


def test_a_folds_place_at_an_address_has_what_its_node_reads_and_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    data = tmp_path / "data"
    datasets = {
        name: JSONDataset(filepath=str(data / f"{name}.json")) for name in ("cv_run", "base_model", "fold_0_run")
    }
    datasets["cv_run"].save({"run_id": "abc"})
    datasets["base_model"].save({})
    attempt = FolderDataset(folder=str(data / "fold_0_attempt"))
    credentials = StorageDataset(credentials={"auto_mkdir": True})
    others = {"fold_0_attempt": attempt, "params:fresh": MemoryDataset(False), "storage": credentials}
    given = DataCatalog({**datasets, **others})
    reads = ["cv_run", "base_model", "fold_0_attempt", "params:fresh"]
    folds = {"fold_0": node(lambda *_: 1, reads, "fold_0_run", name="train")}
    session = project.Session(tmp_path, None, {}, "conf", data)
    bucket = tmp_path / "bucket"
    stored = fold_runner._stored(folds, f"file://{bucket}", given, session)["fold_0"]
    assert (stored.fold, stored.base_model) == ("fold_0", "base_model.json")
    assert stored.record == "fold_0_attempt/record.json"
    assert stored.results == ("fold_0_run.json",)
    assert stored.credentials == {"auto_mkdir": True}
    assert {path.name for path in (bucket / "abc/inputs").iterdir()} == {
        "cv_run.json",
        "base_model.json",
        "SHA256.json",
    }
