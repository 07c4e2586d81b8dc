from pathlib import Path
from typing import Any

from mentallam.reports.outcome import outcome_in_words
from mentallam.reports.rounding import figure


def outcome(summary: dict[str, Any], uncertainty: dict[str, Any], env: str = "") -> list[str]:
    pages = Path("reports/a1"), Path("reports/a1/card.md"), Path("data/run.log"), "http://server/runs"
    return outcome_in_words(summary, uncertainty, *pages, env, "5 min 8 s").splitlines()


def test_the_model_stands_beside_the_best_baseline_and_yes_to_all(
    summary: dict[str, Any], uncertainty: dict[str, Any]
) -> None:
    headlines = {name: found["headline"]["f1"] for name, found in uncertainty["baselines"].items()}
    learned = {name: f1["estimate"] for name, f1 in headlines.items() if name != "all_positive"}
    best = max(learned, key=lambda name: float(learned[name]))
    rows = [line for line in outcome(summary, uncertainty) if line.startswith("F1 ")]
    for row, f1 in zip(rows, (uncertainty["headline"]["f1"], headlines[best], headlines["all_positive"]), strict=True):
        low, high = figure(f1["low"]), figure(f1["high"])
        assert row.startswith(f"F1 {figure(f1['estimate'])} (95 % interval {low} to {high}): ")
    assert rows[1].endswith(f"the best of {len(learned)} baselines, {best}")
    assert rows[2].endswith("yes to every pair")


def test_it_names_files_and_commands_of_the_environment(summary: dict[str, Any], uncertainty: dict[str, Any]) -> None:
    text = "\n".join(outcome(summary, uncertainty, " --env test"))
    for shown in ("  reports/a1 ", "  reports/a1/card.md ", "is data/run.log", "5 min 8 s", "at http://server/runs"):
        assert shown in text
    for command in ("kedro mlflow ui --env test", "mentallam predict --env test", "kedro run --env test --pipeline"):
        assert command in text


def test_synthetic_data_and_missing_folds_are_said(summary: dict[str, Any], uncertainty: dict[str, Any]) -> None:
    summary |= {"synthetic": True, "planned_folds": summary["n_folds"] + 2}
    text = "\n".join(outcome(summary, uncertainty))
    assert "SYNTHETIC DATA" in text
    assert f"pairs of {summary['n_folds']} of {summary['planned_folds']} folds" in text
    assert "mentallam predict" not in text and "goes on with the other folds" in text
    summary["synthetic"] = False
    assert "SYNTHETIC" not in "\n".join(outcome(summary, uncertainty))


def test_what_is_not_defined_is_said(summary: dict[str, Any], uncertainty: dict[str, Any]) -> None:
    uncertainty["headline"]["f1"] |= {"estimate": None, "low": None, "high": None}
    assert any(line.startswith("F1 not defined: the model") for line in outcome(summary, uncertainty))
