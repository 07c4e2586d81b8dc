from pathlib import Path

import pytest

from mentallam.config import compose_config
from mentallam.errors import MentallamError
from mentallam.sweep_space import Choices, Range, as_overrides, first_overrides, read_sweep
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
    composed = compose_config(CONFIGS, "smollm2", first_overrides(options))
    assert composed.adapter.r > 0
    assert options.trials >= 2


def test_values_become_overrides_that_hydra_reads() -> None:
    words = as_overrides({"training.learning_rate": 0.00123456, "adapter.use_dora": False, "adapter.r": 8})
    assert words == "training.learning_rate=0.001235 adapter.use_dora=false adapter.r=8"
    composed = compose_config(CONFIGS, "smollm2", words)
    assert (composed.training.learning_rate, composed.adapter.use_dora, composed.adapter.r) == (0.001235, False, 8)


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
        (GOOD.replace("training.", "model."), r"space\.model\.learning_rate is not in the groups training and adapter"),
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
