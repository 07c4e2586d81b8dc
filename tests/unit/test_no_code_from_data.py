"""Nothing that is read can run code: by the source text, and by trying it."""

import ast
import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint, save_checkpoint
from mentallam.classifier.model import load_base
from mentallam.classifier.shared_base import release_base
from mentallam.classifier.weights import BaseModel, load_tokenizer, prepare_base_model
from mentallam.config import Config
from mentallam.errors import MentallamError
from tests.hostile import pickles
from tests.samples import PROJECT

SOURCES = [path for folder in ("src", "benchmarks") for path in (PROJECT / folder).rglob("*.py")]
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
# By their last name, whatever the module is called: `torch.load`, `pd.read_pickle`, `yaml.unsafe_load`.
FORBIDDEN = {"read_pickle", "to_pickle", "unsafe_load", "full_load", "UnsafeLoader", "Unpickler", "eval", "exec"}
LOADERS = {"AutoTokenizer", "AutoModel", "AutoModelForCausalLM", "AutoConfig"}


def faults(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in UNPICKLERS)
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in UNPICKLERS:
            yield from (alias.name for alias in node.names if alias.name != "UnpicklingError")
        if not isinstance(node, ast.Call):
            continue
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        owner, _, name = ast.unparse(node.func).rpartition(".")
        if name in FORBIDDEN and owner in ("", "pickle", "pd", "pandas", "yaml", "torch", "builtins"):
            yield name
        if owner in ("torch", "yaml") and name in ("load", "save"):
            yield f"{owner}.{name}"
        if name == "load" and owner in ("np", "numpy") and options.get("allow_pickle") != "False":
            yield "numpy.load"
        if "trust_remote_code" in options and options["trust_remote_code"] != "False":
            yield "trust_remote_code"
        if owner in LOADERS and name == "from_pretrained" and not {"trust_remote_code", None} & options.keys():
            yield "from_pretrained without trust_remote_code=False"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "from pickle import loads",
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "pd.read_pickle(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "AutoTokenizer.from_pretrained(folder)",
        "AutoModel.from_pretrained(folder, trust_remote_code=True)",
        "AutoModel.from_pretrained(folder, trust_remote_code=trusted)",
    ],
)
def test_the_search_finds_what_it_is_for(source: str) -> None:
    assert list(faults(source))


def test_the_source_unpickles_nothing_and_trusts_no_remote_code() -> None:
    assert len(SOURCES) > 100
    found = {str(path): sorted(faults(path.read_text(encoding="utf-8"))) for path in SOURCES}
    assert not {path: names for path, names in found.items() if names}


def test_no_entry_of_the_catalog_is_a_pickle() -> None:
    for path in (PROJECT / "conf").rglob("catalog*.yml"):
        assert "pickle" not in path.read_text(encoding="utf-8").lower(), path


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """Yield the path of a file that only hostile code creates; the hostile files do work."""
    marker = tmp_path / "marker"
    for content in pickles(tmp_path / "control")[:1]:
        pickle.loads(content)
    assert (tmp_path / "control").exists()
    yield marker
    release_base()
    assert not marker.exists()


@pytest.fixture
def copy(tiny_base: BaseModel, tmp_path: Path) -> BaseModel:
    """Return a copy of the base model, as a folder from elsewhere."""
    release_base()
    return replace(tiny_base, folder=str(shutil.copytree(tiny_base.folder, tmp_path / "copy")), source="hub")


def add_code(folder: Path, marker: Path, **changes: dict[str, object]) -> None:
    """Write a module that creates the marker, and name it in files of the base model."""
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Evil: pass\n")
    for name, values in changes.items():
        file = folder / f"{name}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_base_model_that_brings_code_is_loaded_without_it(copy: BaseModel, tiny_config: Config, marker: Path) -> None:
    classes = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    tokenizer = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    add_code(Path(copy.folder), marker, config={"auto_map": classes}, tokenizer_config={"auto_map": tokenizer})
    model, _ = load_base(copy, torch.float32)
    assert type(model.model).__name__ == "LlamaModel"
    load_tokenizer(replace(tiny_config.model, source="hub", path=copy.folder), Path(copy.folder))


def test_a_base_model_that_needs_its_code_is_refused(copy: BaseModel, marker: Path) -> None:
    add_code(Path(copy.folder), marker, config={"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}})
    with pytest.raises(MentallamError, match="the model family evil .* is not supported"):
        load_base(copy, torch.float32)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json", "tokenizer.json"])
def test_a_base_models_file_that_is_a_pickle_is_refused(copy: BaseModel, marker: Path, name: str, kind: int) -> None:
    if name == "pytorch_model.bin":
        (Path(copy.folder) / "model.safetensors").unlink()
    (Path(copy.folder) / name).write_bytes(pickles(marker)[kind])
    with pytest.raises(MentallamError, match=r"copy.* can't be loaded"):
        load_base(copy, torch.float32)


def test_tensors_of_an_older_model_are_read_without_unpickling_objects(copy: BaseModel, marker: Path) -> None:
    folder = Path(copy.folder)
    weights = load_file(folder / "model.safetensors")
    before, _ = load_base(copy, torch.float32)
    release_base()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    after, _ = load_base(copy, torch.float32)
    assert torch.equal(before.model.norm.weight, after.model.norm.weight)  # type: ignore[arg-type]
    assert torch.equal(before.model.embed_tokens.weight, after.model.embed_tokens.weight)  # type: ignore[union-attr,arg-type]


def test_an_adapter_that_is_a_pickle_is_refused(trained: TrainedFold, tmp_path: Path, marker: Path) -> None:
    folder, cache = tmp_path / "fold_1", Path(trained.base.folder).parent
    save_checkpoint(trained, folder)
    facts = json.loads((folder / "mentallam.json").read_text())
    del facts["checksums"]  # an older version's checkpoint, which nothing vouches for
    (folder / "mentallam.json").write_text(json.dumps(facts))
    (folder / "SHA256SUMS").unlink()
    (folder / "adapter_model.safetensors").unlink()
    for content in pickles(marker):
        (folder / "adapter_model.bin").write_bytes(content)
        with pytest.raises(MentallamError, match="holds no complete checkpoint"):
            load_checkpoint(folder, cache)


def test_a_base_models_name_cannot_leave_the_folder_of_base_models(tiny_config: Config, tmp_path: Path) -> None:
    model = replace(tiny_config.model, name="../elsewhere")
    with pytest.raises(MentallamError, match="model.name='../elsewhere-.*' can't be part of a path"):
        prepare_base_model(model, tmp_path / "base")
    assert not list(tmp_path.iterdir())
