from pathlib import Path

import pytest

from mentallam import limits
from mentallam.config import Config, to_dict
from mentallam.datasets import ConfigDataset
from mentallam.limits import DEEPEST, read_json, read_yaml

ALIASES = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))])


def lists(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_what_was_written_is_read(tmp_path: Path, read: object) -> None:
    file = tmp_path / "file"
    file.write_text('{"a": [1, {"b": "ü"}], "c": null}', encoding="utf-8")
    assert read(file) == {"a": [1, {"b": "ü"}], "c": None}  # type: ignore[operator]
    file.write_text(lists(DEEPEST))
    read(file)  # type: ignore[operator]


@pytest.mark.parametrize("read", [read_json, read_yaml])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lists(DEEPEST + 1), "nested deeper than 100 levels"),
        (lists(100_000), "nested deeper than 100 levels"),
        ('{"a":' * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1), "nested deeper than 100 levels"),
        ("1" * 10_000, "integer string"),
        ("{", "."),
    ],
)
def test_depth_and_numbers_are_limited(tmp_path: Path, read: object, content: str, reason: str) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    with pytest.raises(ValueError, match=reason):
        read(file)  # type: ignore[operator]


def test_aliases_of_aliases_are_refused_before_anything_is_built(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(ALIASES)
    with pytest.raises(ValueError, match="it holds an alias"):
        read_yaml(tmp_path / "config.yml")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [x]", "!!python/name:os.system"])
def test_yaml_builds_plain_values_only(tmp_path: Path, tag: str) -> None:
    (tmp_path / "config.yml").write_text(f"a: {tag}")
    with pytest.raises(ValueError, match="could not determine a constructor"):
        read_yaml(tmp_path / "config.yml")


@pytest.mark.parametrize(("read", "limit"), [(read_json, "LARGEST_JSON"), (read_yaml, "LARGEST_YAML")])
def test_no_more_than_the_largest_size_is_read(
    tmp_path: Path, read: object, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, limit, 2**20)
    file = tmp_path / "file"
    with file.open("wb") as sparse:
        sparse.truncate(2**40)  # a file that memory could not hold
    with pytest.raises(ValueError, match="larger than 1 MB"):
        read(file)  # type: ignore[operator]


def test_a_saved_configuration_has_no_alias(tmp_path: Path, tiny_config: Config) -> None:
    dataset = ConfigDataset(filepath=str(tmp_path / "config.yml"))
    dataset.save(tiny_config)
    assert to_dict(dataset.load()) == to_dict(tiny_config)
