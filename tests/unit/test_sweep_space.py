from pathlib import Path

import pytest

from mentallam.config import as_words, compose_config, with_values
from mentallam.errors import MentallamError
from mentallam.sweep_space import Choices, Range, as_written, first_values, read_sweep
from tests.samples import PROJECT

CONFIGS = PROJECT / "hydra_configs"
GOOD = "trials: 2\nspace:\n  training.learning_rate: {low: 0.001, high: 0.01, log: true}\n"


def write(folder: Path, content: str) -> Path:
    (folder / "sweep").mkdir()
    (folder / "sweep" / "mine.yaml").write_text(content, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", [file.stem for file in (CONFIGS / "sweep").glob("*.yaml")])
def test_each_committed_search_tries_keys_of_the_configuration(name: str) -> None:
    options = read_sweep(CONFIGS, name)
    composed = with_values(compose_config(CONFIGS, "smollm2"), first_values(options))
    assert composed.adapter.r > 0
    assert options.trials >= 2


def test_a_point_of_the_space_is_trained_as_its_overrides_say() -> None:
    point = {"training.learning_rate": 0.00123456, "adapter.use_dora": False, "adapter.r": 8}
    values = as_written(point)
    assert as_words(values) == "training.learning_rate=0.001235 adapter.use_dora=false adapter.r=8"
    assert with_values(compose_config(CONFIGS, "smollm2"), values) == compose_config(
        CONFIGS, "smollm2", as_words(values)
    )


def test_ranges_and_choices_are_told_apart(tmp_path: Path) -> None:
    content = GOOD + "  training.max_epochs: {low: 1, high: 3}\n  adapter.r: {choices: [4, 8]}\n"
    space = read_sweep(write(tmp_path, content), "mine").space
    assert space["training.max_epochs"] == Range(low=1, high=3)
    assert isinstance(space["adapter.r"], Choices)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (GOOD.replace("0.001", "0.1"), "low must be below high"),
        (GOOD.replace("0.001", "0"), "above 0 where log is true"),
        (GOOD.replace("trials: 2", "trials: 1"), "trials: .*greater than or equal to 2"),
        (
            GOOD.replace("training.", "model."),
            r"space\.model\.learning_rate is no key of the groups training and adapter",
        ),
        (GOOD.replace("training.learning_rate", "training"), r"space\.training is no key of the groups"),
        (GOOD + "prune_after: step\n", "prune_after: Input should be 'fold' or 'epoch'"),
        (GOOD + "  adapter.r: {choices: [4]}\n", "at least 2 items"),
        (GOOD + "pruners: median\n", "pruners: Extra inputs"),
        ("space: [", "mine.yaml: "),
    ],
)
def test_what_cannot_be_tried_is_refused_with_the_file(content: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(MentallamError, match=rf"mine\.yaml: .*{sentence}|{sentence}"):
        read_sweep(write(tmp_path, content), "mine")


def test_an_unknown_search_is_refused_with_the_known_ones() -> None:
    with pytest.raises(MentallamError, match=r"^sweep=nope: there is no .*nope\.yaml; there are: learning, quick$"):
        read_sweep(CONFIGS, "nope")
