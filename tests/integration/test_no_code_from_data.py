"""After a run: no file is a pickle, and none is unpickled if it is replaced by one."""

import pickletools
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from mentallam.checksums import has_checksums, write_checksums
from mentallam.datasets import CheckpointDataset
from tests.hostile import pickles
from tests.integration.workspace import Workspace
from tests.samples import PROJECT


def is_pickle(file: Path) -> bool:
    """Return whether a file is a pickle of any protocol, or an archive with one."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith((".pkl", ".pickle")) for name in archive.namelist())
    content = file.read_bytes()
    try:
        operations = [operation.name for operation, _, _ in pickletools.genops(content)]
    except Exception:
        return content[:1] == b"\x80" and content[1:2] in (b"\2", b"\3", b"\4", b"\5")
    return operations[-1:] == ["STOP"]


def test_the_search_finds_pickles(tmp_path: Path) -> None:
    for content in (*pickles(tmp_path / "marker"), b"(dp0\nS'a'\np1\nI1\ns."):
        (tmp_path / "file").write_bytes(content)
        assert is_pickle(tmp_path / "file")
    (tmp_path / "file").write_text('{"a": 1}')
    assert not is_pickle(tmp_path / "file")


def test_no_file_that_a_run_writes_is_a_pickle(trained: Workspace) -> None:
    files = [
        path for folder in (trained.data, trained.folder / "mlruns") for path in folder.rglob("*") if path.is_file()
    ]
    assert len(files) > 100
    assert not [path for path in files if is_pickle(path)]


def test_no_file_of_a_run_is_unpickled(trained: Workspace, tmp_path: Path) -> None:
    """Each file that a dataset of the catalog reads is replaced by pickles, one after the other."""
    data, marker = Path(shutil.copytree(trained.data, tmp_path / "data")), tmp_path / "marker"
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env="test", runtime_params={"data_dir": str(data)}) as session:
        catalog = session.load_context().catalog  # type: ignore[attr-defined]
    files = {path for path in data.rglob("*") if path.is_file()}
    names = {name for name in catalog.filter() if not name.startswith(("params:", "parameters"))}
    names |= {f"fold_0_{part}" for part in ("split", "run", "checkpoint", "history", "result")}
    names |= {"fold_0_predictions", "fold_0_dev_predictions", "figure_roc", "audit_lengths"}
    tried = 0
    for name in sorted(names):
        dataset = catalog[name]
        if isinstance(dataset, CheckpointDataset):
            paths = [path for path in files if path.parent == Path(dataset._describe()["folder"])]
        else:
            paths = [path for path in files if str(path) == str(dataset._describe().get("filepath"))]
        for path in paths:
            before = path.read_bytes()
            for content in pickles(marker):
                path.write_bytes(content)
                if isinstance(dataset, CheckpointDataset) and has_checksums(path.parent):
                    write_checksums(path.parent)  # the checksums must not be what protects
                with suppress(Exception):
                    dataset.load()
                assert not marker.exists(), name
                tried += 1
            path.write_bytes(before)
    assert tried > 60
