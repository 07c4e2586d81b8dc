"""Every check fires on a result that is made to deserve it, and keeps quiet on one that does not."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallam.config import Config
from mentallam.evaluation.checks import CHECKS, make_checks
from mentallam.evaluation.findings import NOT_CHECKED, PASSED, WARNING, CheckedRun, interval_in_words
from tests.samples import PROJECT

PAGE = (PROJECT / "docs" / "checks.md").read_text(encoding="utf-8")

Change = Callable[[CheckedRun], CheckedRun | None]


def interval(estimate: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"estimate": estimate, "low": low, "high": high, "undefined": 0.0}


@pytest.fixture
def run(
    summary: dict[str, Any], uncertainty: dict[str, Any], data_statistics: dict[str, Any], training_config: Config
) -> CheckedRun:
    """Return results that every check passes."""
    for row in summary["per_criterion"]:
        row["n_positive"] += 20
    summary |= {"few_positives": [], "synthetic": False}
    for fold in summary["folds"]:
        fold["dev_positive"] = 20
    for other in uncertainty["baselines"].values():
        other["difference"]["f1"] |= interval(0.2, 0.1, 0.3)
    for baseline in summary["learned_baselines"].values():
        baseline["per_criterion"] = deepcopy(summary["per_criterion"])
    uncertainty["seeds"] = {"metrics": {"f1": {"std_between_seeds": 0.01}}}
    uncertainty["calibration"] |= {"slope": interval(1.1, 0.9, 1.3), "ece": 0.02}
    uncertainty["calibration"]["ece_if_calibrated"] |= {"p95": 0.03}
    data_statistics |= {"n_authors_straddling_folds": 0}
    config = replace(training_config, model=replace(training_config.model, source="hub"))
    return CheckedRun(summary, uncertainty, data_statistics, config, {"n": 1, "f1": {"parent": 0.6}})


def found(run: CheckedRun, code: str) -> dict[str, Any]:
    [row] = [row for row in make_checks(run)["checks"] if row["code"] == code]
    return row


def test_a_result_without_fault_passes_every_check(run: CheckedRun) -> None:
    made = make_checks(run)
    assert [row["code"] for row in made["checks"] if row["status"] != PASSED] == []
    assert (made["passed"], made["warnings"], made["not_checked"]) == (len(CHECKS), 0, 0)
    assert made["cv_run_id"] == "parent"
    assert {row["what_to_do"] for row in made["checks"]} == {""}


def _with(run: CheckedRun, **changes: Any) -> CheckedRun:
    return replace(run, **changes)


def _unbeaten(run: CheckedRun) -> None:
    run.uncertainty["baselines"]["tfidf"]["difference"]["f1"] |= interval(0.016, -0.07, 0.1)


def _touching_zero(run: CheckedRun) -> None:
    run.uncertainty["baselines"]["prior_only"]["difference"]["f1"] |= interval(0.1, 0.0, 0.2)


def _seeds_differ(run: CheckedRun) -> None:
    run.uncertainty["seeds"]["metrics"]["f1"]["std_between_seeds"] = 0.2


def _rare_criterion(run: CheckedRun) -> None:
    run.summary["per_criterion"][3]["n_positive"] = 19
    run.summary["few_positives"].append("A.4")


def _authors_straddle(run: CheckedRun) -> None:
    run.data.update({"n_authors_straddling_folds": 9})


def _cut(positive: int, pairs: int = 45) -> Change:
    def change(run: CheckedRun) -> None:
        row = {"slice": "truncated posts", "n_posts": 5, "n": pairs, "n_positive": positive}
        run.summary["slices"].append(row)

    return change


def _candidates(run: CheckedRun) -> CheckedRun:
    return _with(run, candidates={"n": 4, "f1": {"parent": 0.639, "other": 0.407, "third": None}})


def _small_dev(run: CheckedRun) -> None:
    run.summary["folds"][2]["dev_positive"] = 19


def _slope(estimate: float, low: float, high: float) -> Change:
    def change(run: CheckedRun) -> None:
        run.uncertainty["calibration"]["slope"] = interval(estimate, low, high)

    return change


def _synthetic(run: CheckedRun) -> None:
    run.summary["synthetic"] = True


def _uneven(run: CheckedRun) -> None:
    run.data["folds"]["balance"] |= {"fold": 1, "share": 0.42, "uneven": True}


def _without(label: str, part: str) -> Change:
    def change(run: CheckedRun) -> None:
        run.data["folds"][f"without_{label}s"][part] = [2, 3]

    return change


def _partial(run: CheckedRun) -> None:
    run.summary["planned_folds"] = 6


def _random(run: CheckedRun) -> CheckedRun:
    return _with(run, config=replace(run.config, model=replace(run.config.model, source="random")))


def _marks(number: int) -> Change:
    def change(run: CheckedRun) -> None:
        run.summary["folds"][4]["n_marked"] = number

    return change


def _at_edge(threshold: float) -> Change:
    def change(run: CheckedRun) -> None:
        run.summary["folds"][4]["threshold"] = threshold

    return change


def _miscalibrated(run: CheckedRun) -> None:
    run.uncertainty["calibration"]["ece"] = 0.031


def _copies(run: CheckedRun) -> None:
    run.data["duplicates"] |= {"sets": 4, "sets_straddling_folds": 1}


def _few_groups(run: CheckedRun) -> None:
    run.uncertainty["clusters"] |= {"unit": "group", "n": 29}


def _sampled(run: CheckedRun) -> CheckedRun:
    return _with(run, config=replace(run.config, training=replace(run.config.training, sample_fraction=0.25)))


def _lost(run: CheckedRun) -> None:
    run.summary["per_criterion"][3]["f1"] = 0.4
    for name, f1 in (("tfidf", 0.5), ("embedding", 0.45)):
        run.summary["learned_baselines"][name]["per_criterion"][3]["f1"] = f1


FIRING = [
    ("MC001", _unbeaten, "over tfidf: the model's F1 minus that of tfidf is 0.016 (95 % interval -0.070 to 0.100)"),
    ("MC001", _touching_zero, "no gain is shown over prior-only: "),
    ("MC002", _seeds_differ, "between seeds is 0.200, and the F1 of"),
    ("MC003", _rare_criterion, "in 1 of 9 criteria: A.4 SLEEP_ISSUES (19)"),
    ("MC004", _authors_straddle, "9 of 45 authors have posts in more than one fold"),
    ("MC005", _cut(20), "5 posts were truncated; they hold "),
    ("MC006", _candidates, "one of 4 cross-validations of the same data, whose pooled F1 reaches from 0.407 to 0.639"),
    ("MC007", _small_dev, "the dev split of fold 2 has the fewest positive pairs, 19"),
    ("MC008", _slope(0.6, 0.4, 0.8), "0.600 (95 % interval 0.400 to 0.800): the probabilities are too extreme"),
    ("MC008", _slope(1.6, 1.1, 2.1), "the probabilities are not extreme enough"),
    ("MC009", _synthetic, "a program invented the posts"),
    ("MC010", _uneven, "fold 1 holds out 42 % of the posts instead of 20 %"),
    ("MC010", _without("positive", "held_out"), "no held-out pair of folds 2, 3 is positive"),
    ("MC010", _without("negative", "dev"), "no dev pair of folds 2, 3 is negative"),
    ("MC011", _partial, "5 of 6 folds are finished"),
    ("MC012", _random, "the base model tiny has random weights"),
    ("MC013", _marks(0), "the threshold of fold 4 is at an end of the grid, or marks all held-out pairs or none"),
    ("MC013", _marks(108), "the threshold of fold 4"),
    ("MC013", _at_edge(0.0), "the threshold of fold 4"),
    ("MC013", _at_edge(1.0), "the threshold of fold 4"),
    ("MC014", _miscalibrated, "error is 0.031; by chance alone it is up to 0.030 in 95 % of cases"),
    ("MC015", _copies, "1 of 4 sets of near-duplicate posts are in more than one fold"),
    ("MC016", _few_groups, "resample 29 groups"),
    ("MC017", _sampled, "learnt from 25 % of its fold's posts"),
    ("MC018", _lost, "above the model's on: A.4 SLEEP_ISSUES (0.400, tfidf 0.500)"),
]


@pytest.mark.parametrize(("code", "change", "words"), FIRING, ids=lambda value: value if isinstance(value, str) else "")
def test_a_check_warns_alone_and_says_why(run: CheckedRun, code: str, change: Change, words: str) -> None:
    made = make_checks(change(run) or run)
    assert [row["code"] for row in made["checks"] if row["status"] == WARNING] == [code]
    assert made["warnings"] == 1
    [row] = [row for row in made["checks"] if row["code"] == code]
    assert words in row["finding"]
    assert row["what_to_do"] == next(check.advice for check in CHECKS if check.code == code)


def test_every_check_is_made_to_fire_here() -> None:
    assert {code for code, _, _ in FIRING} == {check.code for check in CHECKS}


def test_few_cut_positives_are_no_warning(run: CheckedRun) -> None:
    positive = run.summary["n_positive"]
    _cut(positive // 20)(run)
    assert found(run, "MC005")["status"] == PASSED
    _cut(positive // 20 + 1)(run)
    run.summary["slices"].pop(-2)
    assert found(run, "MC005")["status"] == WARNING


def _one_training(run: CheckedRun) -> None:
    run.uncertainty["seeds"] = None


def _undefined_seeds(run: CheckedRun) -> None:
    run.uncertainty["seeds"]["metrics"]["f1"]["std_between_seeds"] = None


def _no_difference(run: CheckedRun) -> None:
    for other in run.uncertainty["baselines"].values():
        other["difference"]["f1"] |= {"estimate": None, "low": None, "high": None}
    _one_training(run)


def _no_learned(run: CheckedRun) -> None:
    run.summary["learned_baselines"] = {}


def _unknown_authors(run: CheckedRun) -> None:
    run.data.update({"n_authors": None, "n_authors_straddling_folds": None})


def _no_positives_cut(run: CheckedRun) -> None:
    _cut(0)(run)
    run.summary["n_positive"] = 0


def _uncounted(run: CheckedRun) -> CheckedRun:
    return _with(run, candidates=None)


def _older(run: CheckedRun) -> None:
    run.summary["folds"][0]["dev_positive"] = None


def _no_slope(run: CheckedRun) -> None:
    run.uncertainty["calibration"]["slope"] = interval(0, None, None)


def _not_searched(run: CheckedRun) -> None:
    run.data["duplicates"]["handling"] = "ignore"


@pytest.mark.parametrize(
    ("codes", "change"),
    [
        (["MC001", "MC002"], _no_difference),
        (["MC001", "MC018"], _no_learned),
        (["MC002"], _one_training),
        (["MC002"], _undefined_seeds),
        (["MC004"], _unknown_authors),
        (["MC005"], _no_positives_cut),
        (["MC006"], _uncounted),
        (["MC007"], _older),
        (["MC008"], _no_slope),
        (["MC015"], _not_searched),
    ],
)
def test_what_is_not_known_is_not_checked(run: CheckedRun, codes: list[str], change: Change) -> None:
    made = make_checks(change(run) or run)
    assert [row["code"] for row in made["checks"] if row["status"] == NOT_CHECKED] == codes
    assert (made["not_checked"], made["warnings"]) == (len(codes), 0)
    for row in made["checks"]:
        assert bool(row["what_to_do"]) == (row["status"] != PASSED)


def test_an_unbeaten_trivial_baseline_warns_even_where_no_other_was_fitted(run: CheckedRun) -> None:
    _no_learned(run)
    _touching_zero(run)
    assert found(run, "MC001")["status"] == WARNING


def test_findings_are_plain_text_that_json_can_hold(summary: Any, uncertainty: Any, checks: Any) -> None:
    assert json.loads(json.dumps(checks, allow_nan=False)) == checks
    for row in checks["checks"]:
        assert not re.search(r"[`*|\n]", row["finding"])
        assert (not row["finding"].endswith(".") and row["finding"][0].islower()) or row["finding"][0].isdigit()


def test_checks_change_nothing(run: CheckedRun) -> None:
    before = deepcopy((run.summary, run.uncertainty, run.data))
    make_checks(run)
    assert (run.summary, run.uncertainty, run.data) == before


@given(low=st.floats(-3, 3), width=st.floats(0, 3))
def test_an_interval_decides_by_its_bounds_alone(low: float, width: float) -> None:
    bounds = interval(low + width / 2, low, low + width)
    uncertainty = {
        **{"method": {"confidence": 0.95}, "calibration": {"slope": bounds}},
        "baselines": {"tfidf": {"difference": {"f1": bounds}}},
    }
    run = CheckedRun({"learned_baselines": {"tfidf": {}}}, uncertainty, {}, Config())
    looks = {check.code: check.look for check in CHECKS}
    assert (looks["MC001"](run).status == WARNING) == (low <= 0)
    assert (looks["MC008"](run).status == WARNING) == (not low <= 1 <= low + width)


def test_codes_are_unique_and_in_order() -> None:
    assert [check.code for check in CHECKS] == [f"MC{number:03}" for number in range(1, len(CHECKS) + 1)]


def test_the_page_has_a_section_per_check_and_no_other() -> None:
    sections = dict(re.findall(r"^## (MC\d+)\n\n\*\*It warns if (.+)\.\*\*", PAGE, flags=re.MULTILINE))
    assert sections == {check.code: check.title for check in CHECKS}
    assert f"makes {len(CHECKS)} checks" in PAGE
    assert re.findall(r"^## (MC.*)$", PAGE, flags=re.MULTILINE) == list(sections)


def test_the_address_of_a_check_is_its_section(checks: dict[str, Any]) -> None:
    for row in checks["checks"]:
        page, _, anchor = row["page"].partition("#")
        assert page == "docs/checks.md" and f"## {anchor.upper()}\n" in PAGE


def test_what_can_be_left_unchecked_says_how_to_check_it() -> None:
    assert {check.code for check in CHECKS if check.if_not_checked} == {
        *("MC001", "MC002", "MC004", "MC005", "MC006", "MC007", "MC008", "MC015", "MC018")
    }


def test_an_interval_is_written_with_its_confidence() -> None:
    assert interval_in_words(interval(-0.0004, -0.25, 1), 0.9) == "-0.000 (90 % interval -0.250 to 1.000)"
