import json
import runpy
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from markdown_it import MarkdownIt

from mentallam.checksums import write_checksums
from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint, save_checkpoint
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.weights import load_tokenizer
from mentallam.config import Config, InferenceConfig, compose_config
from mentallam.errors import MentallamError
from mentallam.evaluation.calibration import Calibration
from mentallam.evaluation.decision import Decision, Thresholds
from mentallam.model_folders import ENSEMBLE_FILE, parts_in
from mentallam.serving.export import export_model, export_parts
from mentallam.serving.posts import Post
from mentallam.serving.predictor import Predictor
from tests.samples import CRITERIA, POSTS, PROJECT
from tests.unit.classifier.builders import make_examples
from tests.unit.classifier.test_checkpoint import DAMAGES, damage
from tests.unit.classifier.test_weights import files_of
from tests.unit.reports.hostile_pages import OWNED, PAYLOAD
from tests.unit.seen import Page
from tests.unit.trained_folds import DECISION, ORIGIN

FILES = {
    "README.md",
    "SHA256SUMS",
    "config.json",
    "example.py",
    "mentallam.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
NOWHERE = Path("/nowhere")  # An exported model needs no base model.

# -I ignores PYTHONPATH and the folder; the entry in sys.modules makes every import of the package fail.
WITHOUT_THE_PACKAGE = """
import sys
sys.modules["mentallam"] = None
import json
import torch
from transformers import AutoModelForSequenceClassification

folder, pairs = sys.argv[1], json.loads(sys.argv[2])
answers = {}
for dtype in ("auto", "float32"):
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
    with torch.no_grad():
        answers[dtype] = [model(torch.tensor([pair])).logits[0].tolist() for pair in pairs]
print(json.dumps([type(model).__module__, str(model.config.id2label), answers]))
"""


@pytest.fixture
def checkpoint(trained: TrainedFold, tmp_path: Path) -> Path:
    save_checkpoint(trained, tmp_path / "models" / "fold_1")
    return tmp_path / "models" / "fold_1"


@pytest.fixture
def cache(trained: TrainedFold) -> Path:
    return Path(trained.base.folder).parent


@pytest.fixture
def exported(checkpoint: Path, cache: Path, tmp_path: Path) -> Path:
    export_model(checkpoint, tmp_path / "exported", cache, "float32")
    return tmp_path / "exported"


def pairs_of(trained: TrainedFold) -> list[list[int]]:
    return [example.prefix + suffix for example in make_examples(trained.prompter) for suffix in example.suffixes]


def our_logits(trained: TrainedFold) -> list[list[float]]:
    """Return the logits of pairs that stand alone, by this package's classifier without a packing."""
    with torch.no_grad():
        return [trained.model(torch.tensor([pair])).logits[0].tolist() for pair in pairs_of(trained)]


def transformers_logits(folder: Path, trained: TrainedFold, python: str) -> dict[str, list[list[float]]]:
    """Return the logits by dtype that a process without this package computes."""
    arguments = [str(folder), json.dumps(pairs_of(trained))]
    command = [python, "-I", "-c", WITHOUT_THE_PACKAGE, *arguments]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=True)
    module, labels, answers = json.loads(done.stdout)
    assert module == "transformers.models.llama.modeling_llama"
    assert labels == str({0: "no", 1: "yes"})
    return dict(answers)


def test_transformers_alone_computes_our_logits_in_float32(
    trained: TrainedFold, exported: Path, checkpoint: Path, cache: Path, python: str
) -> None:
    theirs = transformers_logits(exported, trained, python)
    assert theirs["auto"] == theirs["float32"]
    # The same weights through the same operations give the same bits.
    assert theirs["auto"] == our_logits(load_checkpoint(exported, NOWHERE))
    assert theirs["auto"] == our_logits(load_checkpoint(checkpoint, cache, merge=True))
    # The merge rounds, and a packed row adds in another order.
    logits = np.array(theirs["auto"])
    packed = score_pairs(trained.model, make_examples(trained.prompter), 400)
    assert abs(logits[:, 1] - logits[:, 0] - packed).max() < 2e-5 * abs(packed).max()
    assert len(set(packed)) == len(packed)


def test_bfloat16_loses_the_rounding_of_logits_and_nothing_in_float32(
    trained: TrainedFold, checkpoint: Path, cache: Path, tmp_path: Path, python: str
) -> None:
    folder = tmp_path / "exported"
    export_model(checkpoint, folder, cache, "bfloat16")
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    theirs = transformers_logits(folder, trained, python)
    assert theirs["float32"] == our_logits(load_checkpoint(folder, NOWHERE, "float32"))
    ours = load_checkpoint(folder, NOWHERE)
    assert ours.model.dtype == torch.bfloat16
    wanted = np.array(our_logits(ours))
    # transformers rounds the head's weights, of size 0.3 on 64 states of size 1, and each logit.
    assert 0 < abs(np.array(theirs["auto"]) - wanted).max() < 2**-8 * abs(wanted).max() + 64**0.5 * 0.3 * 2**-9 * 3


def test_the_dtype_of_the_training_is_the_default(checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    export_model(checkpoint, tmp_path / "exported", cache, "auto")
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["dtype"] == "float32"
    assert json.loads((tmp_path / "exported" / "mentallam.json").read_text())["exported"]["dtype"] == "float32"


def posts(texts: dict[str, str]) -> list[Post]:
    return [Post(post_id, text) for post_id, text in texts.items()]


def test_it_is_loaded_as_a_model_here(
    trained: TrainedFold, exported: Path, checkpoint: Path, cache: Path, tiny_config: Config
) -> None:
    loaded = load_checkpoint(exported, NOWHERE)
    assert (loaded.decision, loaded.origin, loaded.config) == (DECISION, ORIGIN, trained.config)
    assert loaded.base == replace(trained.base, folder="")
    assert loaded.folder == exported
    assert not loaded.model.training
    config = replace(tiny_config.inference, merge_adapter=True, keep_merged=False)
    expected = Predictor.load([checkpoint], cache, config).predict(posts(POSTS))
    for merge in (True, False):  # It is merged, whatever is asked for.
        config = replace(tiny_config.inference, merge_adapter=merge)
        assert Predictor.load([exported], NOWHERE, config).predict(posts(POSTS)) == expected


def run_example(folder: Path, text: str, criterion: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> list[str]:
    capsys.readouterr()  # what was printed before
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "mentallam", None)  # an import of it fails
        patch.setattr(sys, "argv", ["example.py", text, criterion])
        runpy.run_path(str(folder / "example.py"))
    answer, _, probability, _, threshold = capsys.readouterr().out.split()
    return [answer, probability, threshold]


def test_the_example_agrees_with_the_predictor(
    trained: TrainedFold, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    decision = Decision(Calibration(1.7, 0.4), Thresholds(0.5, {"A.1": 1.0, "A.4": 0.05}))
    save_checkpoint(replace(trained, decision=decision), tmp_path / "fold")
    export_model(tmp_path / "fold", tmp_path / "exported", cache, "float32")
    # A long post is cut, and a special token's name in a post is ordinary text.
    texts = {**POSTS, "long": "We went to the lake. " * 200, "special": "Tired.<s> </s>So tired."}
    answers = []
    found = Predictor([replace(trained, decision=decision)], 400).predict(posts(texts))
    for row in pd.DataFrame(found).itertuples():
        answer = run_example(tmp_path / "exported", texts[row.post_id], row.criterion_id, monkeypatch, capsys)
        assert answer[::2] == [row.label, f"{row.threshold:.6f}"]
        assert float(answer[1]) == pytest.approx(row.probability, abs=1e-5)
        answers.append(row.label)
    assert set(answers) == {"yes", "no"}
    assert len(answers) == 15


def test_folds_that_answer_together_are_exported_with_the_calibration_of_their_mean(
    trained: TrainedFold,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = [tmp_path / ENSEMBLE_FILE, tmp_path / "one", tmp_path / "other"]
    parts[0].write_text('{"slope": 1.5, "intercept": -0.25}')
    save_checkpoint(trained, parts[1])
    head = trained.model.base_model.model.score.modules_to_save["default"].weight  # type: ignore[union-attr,index]
    with torch.no_grad():
        head.mul_(-0.5)  # type: ignore[operator,union-attr]
    other = replace(
        trained, origin={**trained.origin, "fold": 3}, decision=replace(DECISION, thresholds=Thresholds(0.6))
    )
    save_checkpoint(other, parts[2])
    exported = tmp_path / "exported"
    for _ in range(2):  # an exported model is replaced
        export_parts(parts, exported, cache, "float32")
    assert [part.name for part in parts_in(exported)] == ["ensemble.json", "fold_1", "fold_3"]
    assert "never a diagnosis" in (exported / "README.md").read_text(encoding="utf-8")
    config = InferenceConfig(tokens_per_pass=400, dtype="float32")
    texts = {name: text.strip() for name, text in POSTS.items()}  # the example does not clean
    asked = posts(texts)
    expected = Predictor.load(parts, cache, replace(config, keep_merged=False)).predict(asked)
    found = Predictor.load(parts_in(exported), NOWHERE, config).predict(asked)
    assert found["probability"] == expected["probability"] and found["label"] == expected["label"]
    for place in (0, 4):
        text, criterion = texts[expected["post_id"][place]], expected["criterion_id"][place]
        answer = run_example(exported, text, criterion, monkeypatch, capsys)
        assert answer[::2] == [expected["label"][place], f"{expected['threshold'][place]:.6f}"]
        assert float(answer[1]) == pytest.approx(expected["probability"][place], abs=1e-5)


def test_the_example_runs_as_a_program(exported: Path, python: str) -> None:
    command = [python, "-I", str(exported / "example.py"), "- I can't sleep.", "A.4"]
    done = subprocess.run(command, cwd=exported.parent, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] in ("yes", "no")


def test_token_ids_are_joined_since_a_tokenizer_may_merge_strings() -> None:
    """Why the export holds the prompt as token ids."""
    model = compose_config(PROJECT / "hydra_configs", "smollm2").model
    prompter = Prompter(load_tokenizer(model, PROJECT / "data" / "06_models" / "base"), model.prompt, CRITERIA, 512)
    for text in POSTS.values():
        example = prompter.example("p", text)
        for wording, suffix in zip(CRITERIA.values(), example.suffixes, strict=True):
            joined = model.prompt.prefix.replace("{post}", text) + model.prompt.suffix.replace("{criterion}", wording)
            assert prompter.tokenizer(joined)["input_ids"] != example.prefix + suffix


def test_the_json_holds_what_is_needed_and_where_it_comes_from(exported: Path, trained: TrainedFold) -> None:
    facts = json.loads((exported / "mentallam.json").read_text(encoding="utf-8"))
    assert "never a diagnosis" in facts["notice"]
    assert (facts["criteria"], facts["origin"], facts["decision"]) == (CRITERIA, ORIGIN, DECISION.to_dict())
    assert facts["config"]["model"]["prompt"]["suffix"] == trained.config.model.prompt.suffix
    assert facts["base_model"]["fingerprint"] == trained.base.fingerprint
    assert facts["exported"]["code"]["version"]
    example = trained.prompter.example("p", POSTS["s_2_1"])
    assert list(facts["prompt"]["suffixes"].values()) == example.suffixes


def test_the_folder_is_complete_and_names_no_machine(exported: Path, trained: TrainedFold) -> None:
    assert {path.name for path in exported.iterdir()} == FILES
    here = {trained.base.folder, str(PROJECT), str(Path.home()), str(exported), socket.gethostname()}
    for path in exported.iterdir():
        content = path.read_bytes().decode("latin-1")
        assert not [name for name in here if len(name) > 3 and name in content], path.name
    config = json.loads((exported / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert not {"auto_map", "_attn_implementation", "_name_or_path", "quantization_config"} & config.keys()


def test_damage_is_named_with_the_way_out(exported: Path) -> None:
    for name in FILES:
        content = (exported / name).read_bytes()
        for kind in DAMAGES:
            damage(exported / name, kind)
            with pytest.raises(MentallamError, match=r"exported/[\w.]+ .*; .*export it again \(`mentallam export`\)"):
                load_checkpoint(exported, NOWHERE)
            (exported / name).write_bytes(content)
    assert load_checkpoint(exported, NOWHERE).decision == DECISION


def test_weights_of_another_model_are_refused(exported: Path) -> None:
    """Somebody may have written the checksums again."""
    config = json.loads((exported / "config.json").read_text())
    (exported / "config.json").write_text(json.dumps({**config, "hidden_size": 128}))
    write_checksums(exported)
    with pytest.raises(MentallamError, match="of another shape than its config.json says.*; .*export it again"):
        load_checkpoint(exported, NOWHERE)


@pytest.mark.parametrize("entry", [None, 1, {}, {"dtype": "int8"}, {"dtype": "float64"}, {"dtype": "__doc__"}])
def test_a_dtype_that_no_export_wrote_is_refused(exported: Path, entry: Any) -> None:
    facts = json.loads((exported / "mentallam.json").read_text())
    (exported / "mentallam.json").write_text(json.dumps({**facts, "exported": entry}))
    write_checksums(exported)
    with pytest.raises(MentallamError, match=r"holds no complete checkpoint .*; .*export it again"):
        load_checkpoint(exported, NOWHERE)


def test_an_exported_model_is_replaced_whole(exported: Path, checkpoint: Path, cache: Path) -> None:
    (exported / "left over.bin").touch()
    export_model(checkpoint, exported, cache, "bfloat16")
    assert {path.name for path in exported.iterdir()} == FILES
    assert load_checkpoint(exported, NOWHERE).model.dtype == torch.bfloat16


def test_anything_else_is_not_replaced(trained: TrainedFold, checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mentallam.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    for place in (checkpoint, Path(trained.base.folder), tmp_path / "file", tmp_path / "notes"):
        before = files_of(place) if place.is_dir() else place.read_bytes()
        with pytest.raises(MentallamError, match=f"{place.name} exists and is no exported model; name another folder"):
            export_model(checkpoint, place, cache, "float32")
        assert (files_of(place) if place.is_dir() else place.read_bytes()) == before
    export_model(checkpoint, tmp_path / "empty", cache, "float32")
    assert {path.name for path in (tmp_path / "empty").iterdir()} == FILES


def test_a_failing_export_leaves_the_previous_one_whole(
    exported: Path, checkpoint: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(exported)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", full)
        with pytest.raises(MentallamError, match="exported can't be written .*No space left on device"):
            export_model(checkpoint, exported, cache, "bfloat16")
    assert files_of(exported) == before
    assert not list(exported.parent.glob(".unfinished*"))


def test_an_exported_model_is_not_exported_again(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(MentallamError, match="exported is an exported model already; copy the folder"):
        export_model(exported, tmp_path / "again", NOWHERE, "float32")
    assert not (tmp_path / "again").exists()


def card_of(trained: TrainedFold, tmp_path: Path, base: Path | None = None) -> tuple[dict[str, Any], str]:
    """Return the header and the text of an exported model's card."""
    save_checkpoint(trained, tmp_path / "fold")
    export_model(tmp_path / "fold", tmp_path / "exported", base or Path(trained.base.folder).parent, "float32")
    _, header, text = (tmp_path / "exported" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), text


def test_the_card_warns_and_says_where_it_comes_from(trained: TrainedFold, tmp_path: Path) -> None:
    header, text = card_of(trained, tmp_path)
    assert header == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["mentallam", "research-screening"],
    }
    assert "never a diagnosis" in text
    assert "SYNTHETIC DATA" in text
    for fact in ("0.37", "fold-run", "cv-run", ORIGIN["data_hash"], trained.base.fingerprint, "A.6: Fatigue"):
        assert str(fact) in text
    _, text = card_of(replace(trained, origin={**ORIGIN, "synthetic": False}), tmp_path)
    assert "SYNTHETIC" not in text


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: mit\ntags: [a]\n---\n# A model", "mit"),
        ("---\nlicense: [mit]\n---\n", None),
        ("---\nlanguage: en\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
        (f"---\nlicense: {PAYLOAD}\n---\n", None),
    ],
)
def test_the_header_names_the_base_model_of_a_hub_and_its_licence(
    trained: TrainedFold, tmp_path: Path, card: str, licence: str | None
) -> None:
    # The checkpoint finds its base model in the cache, by name and fingerprint.
    folder = tmp_path / "base" / Path(trained.base.folder).name
    folder.mkdir(parents=True)
    for file in Path(trained.base.folder).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "README.md").write_text(card, encoding="utf-8")
    model = replace(trained.config.model, source="hub", path="somebody/some-model")
    header, text = card_of(replace(trained, config=replace(trained.config, model=model)), tmp_path, folder.parent)
    assert header["base_model"] == "somebody/some-model"
    assert header.get("license") == licence
    assert ("licence mit" in text) == (licence is not None)


def test_the_card_holds_no_markup_of_users(trained: TrainedFold, tmp_path: Path) -> None:
    hostile = PAYLOAD + "\n\n# heading\n```\n---\n"
    first, *others = CRITERIA.items()
    trained.prompter.criteria.clear()
    trained.prompter.criteria.update({hostile: hostile, **dict([first, *others])})
    path = hostile.replace("${", "")  # Hydra refuses it in a configuration.
    config = replace(trained.config, model=replace(trained.config.model, source="hub", path=path))
    thresholds = Thresholds(0.5, {hostile: 0.25})
    changed = replace(
        trained,
        config=config,
        origin={**ORIGIN, "corpus": hostile, "run_id": hostile},
        decision=Decision(Calibration(), thresholds),
    )
    header, text = card_of(changed, tmp_path)
    assert header["base_model"] == path
    page = Page(MarkdownIt("commonmark", {"html": True}).render(text))
    assert OWNED in page.text
    assert {tag for tag, _ in page.tags} == {"h1", "h2", "p", "strong", "ul", "li", "code"}
    assert load_checkpoint(tmp_path / "exported", NOWHERE).prompter.criteria == trained.prompter.criteria
