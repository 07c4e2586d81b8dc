import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mentallam.errors import MentallamError
from mentallam.evaluation.few_positives import simulated_coverage
from mentallam.evaluation.metrics import criterion_metrics, pair_metrics
from mentallam.evaluation.resampling import UncertaintyOptions, holm
from mentallam.evaluation.uncertainty import (
    METHOD,
    Draws,
    _over_seeds,
    compare_tables,
    describe_clusters,
    estimate_uncertainty,
    f1_intervals,
    paired,
    protocol_intervals,
    seed_spread,
)
from mentallam.evaluation.weighted import HEADLINE
from tests.unit.predictions import DECISION, worse


def test_the_estimates_are_the_figures_of_the_summary(
    uncertainty: dict[str, Any], summary: dict[str, Any], baseline: pd.DataFrame
) -> None:
    headline = uncertainty["headline"]
    assert list(headline) == list(HEADLINE)
    for metric in set(HEADLINE) & set(summary["pooled"]):
        assert headline[metric]["estimate"] == pytest.approx(summary["pooled"][metric]), metric
    of_baseline = pair_metrics(baseline["label"], baseline["probability"], baseline["prediction"])
    tfidf = uncertainty["baselines"]["tfidf"]
    for metric in ("f1", "average_precision"):
        assert tfidf["headline"][metric]["estimate"] == pytest.approx(of_baseline[metric])
        difference = summary["pooled"][metric] - of_baseline[metric]
        assert tfidf["difference"][metric]["estimate"] == pytest.approx(difference)
    for name, trivial in summary["baselines"].items():
        assert uncertainty["baselines"][name]["headline"]["f1"]["estimate"] == trivial["f1"]
    dev_split, same_fold = (uncertainty["protocols"][name] for name in ("dev_split", "same_fold"))
    assert dev_split["f1"] == headline["f1"]
    assert headline["macro_f1"]["estimate"] == pytest.approx(summary["macro_f1"]["mean"])
    assert uncertainty["calibration"]["ece"] == summary["pooled"]["ece"]
    assert dev_split["f1_mean"]["estimate"] == pytest.approx(summary["metrics"]["f1"]["mean"])
    assert same_fold["f1_mean"]["estimate"] == pytest.approx(summary["metrics"]["f1_same_fold"]["mean"])
    assert uncertainty["protocols"]["selection_optimism"]["estimate"] == pytest.approx(summary["selection_optimism"])


def test_every_estimate_lies_in_its_interval(uncertainty: dict[str, Any]) -> None:
    found = [*uncertainty["headline"].values(), *(row["f1"] for row in uncertainty["per_criterion"])]
    found += [protocol[name] for protocol in list(uncertainty["protocols"].values())[:3] for name in ("f1", "f1_mean")]
    for other in uncertainty["baselines"].values():
        found += [*other["difference"].values(), *other["per_criterion"]]
    assert len(found) == len(HEADLINE) + 9 + 6 + 4 * (len(HEADLINE) + 9)
    # Answering no to everything finds nothing, so no number of pairs is enough to read.
    undefined = uncertainty["baselines"]["all_negative"]["difference"]["number_needed_to_read"]
    assert undefined["estimate"] is None
    found.remove(undefined)
    for interval in found:
        assert interval["low"] <= interval["estimate"] <= interval["high"]
    assert all(interval["low"] < interval["high"] for interval in uncertainty["headline"].values())


def test_the_method_and_the_numbers_of_groups_and_pairs_are_reported(
    uncertainty: dict[str, Any], oof: pd.DataFrame, baseline: pd.DataFrame, options: UncertaintyOptions
) -> None:
    for found in (uncertainty, compare_tables(oof, baseline, options)):
        assert found["method"] == {**METHOD, "resamples": 200, "confidence": 0.95, "seed": 42}
        assert (found["clusters"]["n"], found["n_pairs"]) == (60, 540)


def test_less_confidence_makes_every_interval_narrower(
    uncertainty: dict[str, Any], oof: pd.DataFrame, baseline: pd.DataFrame, options: UncertaintyOptions
) -> None:
    unsure = options.model_copy(update={"confidence": 0.5})

    def intervals(found: Any) -> list[tuple[float, float]]:
        if isinstance(found, dict):
            bounds = [(found["low"], found["high"])] if found.get("low") is not None else []
            return bounds + [pair for value in found.values() for pair in intervals(value)]
        return [pair for value in found for pair in intervals(value)] if isinstance(found, list) else []

    tables = {"a": oof, "b": baseline}
    for wide, narrow in (
        (uncertainty, estimate_uncertainty(oof, {"tfidf": baseline}, unsure, DECISION)),
        (compare_tables(oof, baseline, options), compare_tables(oof, baseline, unsure)),
        (seed_spread(tables, options), seed_spread(tables, unsure)),
    ):
        pairs = list(zip(intervals(wide), intervals(narrow), strict=True))
        assert len(pairs) > 10
        for (low, high), (inner_low, inner_high) in pairs:
            assert low <= inner_low <= inner_high <= high
            assert high - low > inner_high - inner_low or high == low


def test_each_interval_belongs_to_its_metric_and_criterion(
    uncertainty: dict[str, Any], oof: pd.DataFrame, options: UncertaintyOptions
) -> None:
    """The interval of a criterion equals the headline of a table with only that criterion and the same seed."""
    table = oof[oof["criterion_id"] == "A.4"]
    alone = estimate_uncertainty(table, {}, options, DECISION)
    assert uncertainty["per_criterion"][3]["f1"] == pytest.approx(alone["headline"]["f1"])
    assert alone["headline"]["macro_f1"] == pytest.approx(alone["headline"]["f1"])
    positive = int(table["label"].sum())
    assert alone["per_criterion"] == [
        {
            "criterion_id": "A.4",
            "n_positive": positive,
            "f1": alone["headline"]["f1"],
            "simulated_coverage": simulated_coverage(positive),
        }
    ]


def test_figures_get_the_intervals_of_f1_that_are_defined(uncertainty: dict[str, Any]) -> None:
    nothing = {"estimate": None, "low": None, "high": None, "undefined": 1.0}
    uncertainty["per_criterion"][2]["f1"] = nothing
    uncertainty["baselines"]["prior_only"]["headline"]["f1"] = nothing
    found = f1_intervals(uncertainty)
    assert list(found) == ["all_negative", "all_positive", "tfidf", "model"]
    assert found["tfidf"] == {"all": uncertainty["baselines"]["tfidf"]["headline"]["f1"]}
    assert found["model"] == {
        "all": uncertainty["headline"]["f1"],
        **{f"A.{number}": uncertainty["per_criterion"][number - 1]["f1"] for number in (1, 2, 4, 5, 6, 7, 8, 9)},
    }
    uncertainty["headline"]["f1"] = nothing
    assert list(f1_intervals(uncertainty)["model"]) == ["A.1", "A.2", "A.4", "A.5", "A.6", "A.7", "A.8", "A.9"]


def test_the_uncertainty_survives_json(uncertainty: dict[str, Any]) -> None:
    assert json.loads(json.dumps(uncertainty, allow_nan=False)) == uncertainty


def test_criteria_come_with_their_positives_and_holms_correction(
    uncertainty: dict[str, Any], oof: pd.DataFrame, baseline: pd.DataFrame, criteria: pd.DataFrame
) -> None:
    figures, other = criterion_metrics(oof, criteria), criterion_metrics(baseline, criteria)
    rows = uncertainty["baselines"]["tfidf"]["per_criterion"]
    assert holm([row["p_value"] for row in rows]) == [row["p_holm"] for row in rows]
    for expected, less, found, row in zip(figures, other, uncertainty["per_criterion"], rows, strict=True):
        assert row["criterion_id"] == found["criterion_id"] == expected["criterion_id"]
        assert row["n_positive"] == found["n_positive"] == expected["n_positive"]
        assert found["f1"]["estimate"] == pytest.approx(expected["f1"])
        assert row["estimate"] == pytest.approx(expected["f1"] - less["f1"])


def test_the_same_seed_gives_the_same_and_the_order_of_rows_does_not_matter(
    uncertainty: dict[str, Any], oof: pd.DataFrame, baseline: pd.DataFrame, options: UncertaintyOptions
) -> None:
    shuffled = oof.sample(frac=1, random_state=1)
    again = estimate_uncertainty(shuffled, {"tfidf": baseline}, options, DECISION)
    for metric, interval in uncertainty["headline"].items():
        assert again["headline"][metric] == pytest.approx(interval)
        for key, value in uncertainty["baselines"]["tfidf"]["difference"][metric].items():
            assert again["baselines"]["tfidf"]["difference"][metric][key] == pytest.approx(value, abs=0.02)
    other_seed = UncertaintyOptions(**{**options.model_dump(), "seed": 1})
    assert estimate_uncertainty(oof, {}, other_seed, DECISION)["headline"]["f1"] != uncertainty["headline"]["f1"]


def test_a_cluster_comes_with_all_its_pairs(oof: pd.DataFrame, options: UncertaintyOptions) -> None:
    """Doubling every pair in its cluster adds no information; a separate cluster for the copies would seem to."""
    twin = oof.assign(post_id=oof["post_id"] + "_twin")
    once = compare_tables(oof, oof, options)["first"]["f1"]
    copied = compare_tables(pd.concat([oof, twin]), pd.concat([oof, twin]), options)["first"]["f1"]
    assert copied == pytest.approx(once)
    apart = pd.concat([oof, twin.assign(cluster=twin["cluster"] + "_twin")])
    naive = compare_tables(apart, apart, options)["first"]["f1"]
    assert naive["high"] - naive["low"] < 0.85 * (once["high"] - once["low"])


def test_a_criterion_without_positives_has_no_f1_and_no_test(oof: pd.DataFrame, options: UncertaintyOptions) -> None:
    oof.loc[oof["criterion_id"] == "A.5", "label"] = 0
    rare = oof.index[(oof["criterion_id"] == "A.6") & (oof["label"] == 1)]
    oof.loc[rare[1:], "label"] = 0
    compared = compare_tables(oof, oof.assign(prediction=np.int8(1)), options)
    assert compared["per_criterion"][4] == {
        "criterion_id": "A.5",
        "n_positive": 0,
        "estimate": None,
        "low": None,
        "high": None,
        "undefined": 1.0,
        "p_value": None,
        "p_holm": None,
    }
    # The only positive pair of A.6 stays out of a resample with a chance of 1 / e.
    assert compared["per_criterion"][5]["undefined"] == pytest.approx(np.exp(-1), abs=0.1)
    # Macro F1 is the mean over the criteria that a resample has positive pairs of.
    assert compared["first"]["macro_f1"]["undefined"] == 0.0
    assert compared["first"]["f1"]["undefined"] == 0.0
    assert compared["first"]["macro_f1"]["estimate"] is not None
    json.dumps(compared, allow_nan=False)


def test_without_any_positive_pair_few_metrics_are_defined(oof: pd.DataFrame, options: UncertaintyOptions) -> None:
    oof["label"] = np.int8(0)
    headline = estimate_uncertainty(oof, {}, options, DECISION)["headline"]
    assert {name for name, interval in headline.items() if interval["estimate"] is not None} == {
        "accuracy",
        "brier",
        "log_loss",
    }
    assert headline["f1"] == {"estimate": None, "low": None, "high": None, "undefined": 1.0}


def test_a_table_compared_with_itself_differs_in_nothing(oof: pd.DataFrame, options: UncertaintyOptions) -> None:
    compared = compare_tables(oof, oof.sample(frac=1, random_state=3), options)
    assert compared["first"].keys() == compared["second"].keys() == compared["difference"].keys()
    for row in [*compared["difference"].values(), *compared["per_criterion"]]:
        assert [row[name] for name in ("estimate", "low", "high")] == pytest.approx([0, 0, 0], abs=1e-9)
        assert row["p_value"] == 1.0


def test_a_clear_difference_is_found_and_changes_its_sign_with_the_order(
    oof: pd.DataFrame, baseline: pd.DataFrame, options: UncertaintyOptions
) -> None:
    there, back = compare_tables(oof, baseline, options), compare_tables(baseline, oof, options)
    assert there["difference"]["roc_auc"]["low"] > 0 and there["difference"]["roc_auc"]["p_value"] <= 0.01
    assert there["difference"]["brier"]["high"] < 0
    for metric in HEADLINE:
        difference, other = there["difference"][metric], back["difference"][metric]
        assert [difference["low"], difference["high"]] == pytest.approx([-other["high"], -other["low"]])
        assert difference["p_value"] == pytest.approx(other["p_value"])
    # The draws are paired, so the difference has a narrower interval than that of two unrelated figures.
    width = {name: there[name]["roc_auc"]["high"] - there[name]["roc_auc"]["low"] for name in ("first", "second")}
    difference = there["difference"]["roc_auc"]
    assert difference["high"] - difference["low"] < np.hypot(*width.values())


def test_the_folds_of_the_second_table_may_differ(
    oof: pd.DataFrame, baseline: pd.DataFrame, options: UncertaintyOptions
) -> None:
    expected = compare_tables(oof, baseline, options)
    assert compare_tables(oof, baseline.assign(fold=4 - baseline["fold"]), options) == expected


def test_the_scale_of_a_models_scores_does_not_change_a_test_of_its_ranking(
    oof: pd.DataFrame, baseline: pd.DataFrame, options: UncertaintyOptions
) -> None:
    """Groups are exchanged between models of different scales, and the scale must not decide the ranking."""
    squeezed = baseline.assign(probability=0.01 * baseline["probability"])
    expected, found = (compare_tables(oof, table, options)["difference"] for table in (baseline, squeezed))
    for metric in ("roc_auc", "average_precision"):
        assert found[metric] == pytest.approx(expected[metric])
    assert found["brier"]["estimate"] != pytest.approx(expected["brier"]["estimate"])


def test_a_resample_in_which_a_figure_is_undefined_is_left_out_and_never_counts_as_zero(
    oof: pd.DataFrame, options: UncertaintyOptions
) -> None:
    """Perfect predictions have an F1 of 1 wherever it is defined; fold 0 has one group with a positive pair."""
    only_group = oof.loc[oof["label"] == 1, "group"].iloc[0]
    oof.loc[(oof["fold"] == 0) & (oof["group"] != only_group), "label"] = 0
    oof = oof.assign(prediction=oof["label"], probability=oof["label"].astype(float))
    chance = pytest.approx(np.exp(-1), abs=0.1)  # that a group stays out of a resample
    found = protocol_intervals(oof, options, DECISION)
    for protocol in ("dev_split", "cross_fitted", "same_fold"):
        mean = found[protocol]["f1_mean"]
        assert (mean["estimate"], mean["low"], mean["high"]) == pytest.approx((1.0, 1.0, 1.0))
        assert mean["undefined"] == chance
        assert found[protocol]["f1"] == {"estimate": 1.0, "low": 1.0, "high": 1.0, "undefined": 0.0}
    optimism = found["selection_optimism"]
    assert (optimism["low"], optimism["high"], optimism["undefined"]) == (0.0, 0.0, chance)
    # With one positive group in all folds, the pooled figures are undefined as often.
    oof = oof.assign(label=oof["label"].where(oof["group"] == only_group, 0))
    oof = oof.assign(prediction=oof["label"], probability=oof["label"].astype(float))
    compared = compare_tables(oof, oof, options)
    spread = seed_spread({"42": oof, "43": oof}, options)["metrics"]
    for metric in ("f1", "precision", "recall", "macro_f1", "balanced_accuracy", "mcc", "roc_auc", "average_precision"):
        for figure in (compared["first"][metric], compared["second"][metric], spread[metric]):
            assert figure["undefined"] == chance, metric
            assert figure["low"] == figure["high"] > 0, metric
        assert compared["difference"][metric]["undefined"] == chance
    assert protocol_intervals(oof, options, DECISION)["dev_split"]["f1"]["undefined"] == chance


def test_a_fold_without_a_positive_pair_is_left_out_of_the_mean_as_in_the_summary(
    oof: pd.DataFrame, options: UncertaintyOptions
) -> None:
    oof.loc[oof["fold"] == 0, "label"] = 0
    oof = oof.assign(prediction=oof["label"], probability=oof["label"].astype(float))
    assert protocol_intervals(oof, options, DECISION)["dev_split"]["f1_mean"] == {
        "estimate": 1.0,
        "low": pytest.approx(1.0),
        "high": pytest.approx(1.0),
        "undefined": 0.0,
    }


def test_a_fold_whose_positive_pairs_are_all_missed_is_undefined_where_they_are_not_drawn(
    oof: pd.DataFrame, options: UncertaintyOptions
) -> None:
    only_group = oof.loc[oof["label"] == 1, "group"].iloc[0]
    oof.loc[(oof["fold"] == 0) & (oof["group"] != only_group), "label"] = 0
    oof = oof.assign(prediction=oof["label"].where(oof["fold"] != 0, 0), probability=oof["label"].astype(float))
    mean = protocol_intervals(oof, options, DECISION)["dev_split"]["f1_mean"]
    assert mean["estimate"] == pytest.approx(0.8)
    assert mean["undefined"] == pytest.approx(np.exp(-1), abs=0.1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: table[1:], "the pair of post 's_0_0' and criterion 'A.1' is only in the first table"),
        (lambda table: pd.concat([table, table[5:6]]), "is twice in the table of tfidf"),
        (
            lambda table: table.assign(label=1 - table["label"]),
            r"the pair of post 's_0_0' and criterion 'A\.1' has another label there",
        ),
        (lambda table: table.assign(group=table["group"].replace("s_1_3", "s_1_4")), "'s_1_3' .* has another group"),
        (
            lambda table: pd.concat([table, table[:1].assign(post_id="new")]),
            "the pair of post 'new' and criterion 'A.1' is only in the table of tfidf",
        ),
    ],
)
def test_tables_that_do_not_match_are_refused(oof: pd.DataFrame, change: Any, reason: str) -> None:
    with pytest.raises(MentallamError, match=f"the table of tfidf cannot be compared with the first: .*{reason}"):
        paired(oof, change(oof), "tfidf")


def test_a_missing_column_is_an_error_naming_it(oof: pd.DataFrame) -> None:
    with pytest.raises(MentallamError, match="^the table of tfidf cannot be compared .*: it has no column 'group';"):
        paired(oof, oof.drop(columns="group"), "tfidf")


def test_a_table_of_other_pairs_is_named(oof: pd.DataFrame, options: UncertaintyOptions) -> None:
    with pytest.raises(MentallamError, match="^the table of tfidf cannot be compared .* is only in the first table"):
        estimate_uncertainty(oof, {"tfidf": oof[1:]}, options, DECISION)
    with pytest.raises(MentallamError, match="^the table of the second cannot be compared .* only in the first table"):
        compare_tables(oof, oof[1:], options)


def test_the_second_table_comes_in_the_order_of_the_first(oof: pd.DataFrame, baseline: pd.DataFrame) -> None:
    first = oof.sample(frac=1, random_state=5)
    aligned = paired(first, baseline, "tfidf")
    assert aligned.index.tolist() == list(range(540))
    for column in ("post_id", "criterion_id", "group", "label"):
        assert aligned[column].tolist() == first[column].tolist()
    pd.testing.assert_frame_equal(
        aligned.sort_values(["post_id", "criterion_id"], ignore_index=True),
        baseline.sort_values(["post_id", "criterion_id"], ignore_index=True),
    )


def test_a_pair_that_is_twice_in_the_first_table_is_an_error(oof: pd.DataFrame) -> None:
    with pytest.raises(MentallamError, match=r"post 's_0_0' and criterion 'A\.6' is twice in the first table"):
        paired(pd.concat([oof, oof[5:6]]), oof, "tfidf")


def test_two_groups_are_enough(oof: pd.DataFrame, options: UncertaintyOptions) -> None:
    two = oof[oof["group"].isin(["s_0_0", "s_0_1"])]
    compared = compare_tables(two, two, options)
    assert compared["clusters"]["n"] == 2 and compared["first"]["accuracy"]["low"] is not None


def test_one_group_is_too_few(oof: pd.DataFrame, options: UncertaintyOptions) -> None:
    oof = oof[oof["group"] == "s_0_0"]
    for refused in (compare_tables, lambda first, _, options: protocol_intervals(first, options, DECISION)):
        with pytest.raises(MentallamError, match="two clusters"):
            refused(oof, oof, options)


def test_the_spread_between_seeds_is_not_the_bootstraps(
    oof: pd.DataFrame, baseline: pd.DataFrame, options: UncertaintyOptions
) -> None:
    other_folds = baseline.assign(fold=4 - baseline["fold"])
    spread = seed_spread({"42": oof, "142": other_folds}, options)
    assert spread["repeats"] == ["42", "142"]
    for metric in ("f1", "roc_auc", "log_loss"):
        compared = compare_tables(oof, baseline, options)
        both = [compared[name][metric]["estimate"] for name in ("first", "second")]
        found = spread["metrics"][metric]
        assert list(found["estimates"].values()) == pytest.approx(both)
        assert found["mean"] == pytest.approx(np.mean(both))
        assert found["std_between_seeds"] == pytest.approx(np.std(both, ddof=1))
        assert found["low"] < found["mean"] < found["high"] and found["undefined"] == 0.0
    same = seed_spread({"42": oof, "43": oof}, options)["metrics"]["f1"]
    alone = compare_tables(oof, oof, options)["first"]["f1"]
    assert same["std_between_seeds"] == 0
    assert (same["low"], same["high"]) == pytest.approx((alone["low"], alone["high"]))


def test_a_metric_that_a_repeat_does_not_define_is_none(oof: pd.DataFrame, options: UncertaintyOptions) -> None:
    oof["label"] = np.int8(0)
    spread = seed_spread({"42": oof, "142": oof}, options)["metrics"]["f1"]
    assert spread == {
        "estimates": {"42": None, "142": None},
        "mean": None,
        "std_between_seeds": None,
        "low": None,
        "high": None,
        "undefined": 1.0,
    }


def test_each_repeat_is_compared_with_its_own_baseline(
    oof: pd.DataFrame, baseline: pd.DataFrame, options: UncertaintyOptions
) -> None:
    found = seed_spread(
        {"42": oof, "142": baseline}, options, {"tfidf": [baseline, oof.sample(frac=1, random_state=0)]}
    )
    difference = found["differences"]["tfidf"]["f1"]
    expected = compare_tables(oof, baseline, options)["difference"]["f1"]["estimate"]
    assert list(difference["estimates"].values()) == pytest.approx([expected, -expected])
    assert difference["mean"] == pytest.approx(0)
    assert difference["std_between_seeds"] == pytest.approx(abs(expected) * np.sqrt(2))
    with pytest.raises(MentallamError, match="the table of tfidf of 142 cannot be compared"):
        seed_spread({"42": oof, "142": baseline}, options, {"tfidf": [baseline, baseline[1:]]})


@pytest.mark.parametrize("n_seeds", [3, 5])
def test_the_interval_over_seeds_covers_as_often_as_stated(n_seeds: int) -> None:
    """The truth is 0; groups and seeds err independently, by 1 each; resampling the seeds would cover less."""
    options = UncertaintyOptions(resamples=1000, confidence=0.95, seed=1)
    rng, covered, resampled_covers = np.random.default_rng(n_seeds), [], []
    for _ in range(300):
        groups, seeds = rng.normal(), rng.normal(size=n_seeds)
        around = groups + rng.normal(size=(1000, 1))
        drawn = [
            Draws(np.full(len(HEADLINE), groups + one), np.repeat(around + one, len(HEADLINE), 1), []) for one in seeds
        ]
        found = _over_seeds([*map(str, range(n_seeds))], drawn, options)["f1"]
        covered.append(found["low"] <= 0 <= found["high"])
        chosen = seeds[rng.integers(n_seeds, size=(1000, n_seeds))].mean(axis=1)
        low, high = np.quantile(around[:, 0] + chosen, [0.025, 0.975])
        resampled_covers.append(low <= 0 <= high)
    assert np.mean(covered) >= 0.92
    assert np.mean(resampled_covers) < np.mean(covered)


def test_f1_of_the_baselines_is_corrected_over_them(uncertainty: dict[str, Any]) -> None:
    of_f1 = [other["difference"]["f1"] for other in uncertainty["baselines"].values()]
    assert [one["p_holm"] for one in of_f1] == holm([one["p_value"] for one in of_f1])
    assert any(one["p_holm"] > one["p_value"] for one in of_f1)
    assert all("p_holm" not in other["difference"]["average_precision"] for other in uncertainty["baselines"].values())


def test_a_repeat_of_other_pairs_is_named(oof: pd.DataFrame, options: UncertaintyOptions) -> None:
    with pytest.raises(MentallamError, match="the table of runs/b cannot be compared with the first"):
        seed_spread({"this run": oof, "runs/a": oof, "runs/b": oof[1:]}, options)


def test_one_repeat_shows_no_spread(oof: pd.DataFrame, options: UncertaintyOptions) -> None:
    with pytest.raises(MentallamError, match="two or more"):
        seed_spread({"42": oof}, options)


def authored(oof: pd.DataFrame) -> pd.DataFrame:
    """Return the table with five posts of each author, whose folds the groups do not follow."""
    number = oof["post_id"].str.rsplit("_").str[-1].astype(int)
    author_seen = pd.array([True] * len(oof), dtype="boolean")
    return oof.assign(cluster="a" + (number % 12).astype(str), author_seen=author_seen)


def test_authors_are_resampled_wherever_they_are_known(oof: pd.DataFrame, options: UncertaintyOptions) -> None:
    by_author = authored(oof)
    assert by_author.groupby("cluster")["group"].nunique().eq(5).all()
    found = estimate_uncertainty(by_author, {"tfidf": worse(oof)}, options, DECISION)
    assert found["clusters"] == {"unit": "author", "n": 12, "posts_without_author": 0}
    # The same figures follow where the groups are the authors, and the same clusters where a table names none.
    grouped = by_author.assign(group=by_author["cluster"]).drop(columns="cluster")
    other = worse(oof)
    other = other.assign(group="a" + (other["post_id"].str.rsplit("_").str[-1].astype(int) % 12).astype(str))
    assert estimate_uncertainty(grouped, {"tfidf": other}, options, DECISION) == found
    by_post = estimate_uncertainty(oof, {"tfidf": worse(oof)}, options, DECISION)
    assert by_post["headline"]["f1"]["low"] != found["headline"]["f1"]["low"]
    assert (
        by_post["baselines"]["tfidf"]["difference"]["f1"]["p_value"]
        != (found["baselines"]["tfidf"]["difference"]["f1"]["p_value"])
    )


def test_the_unit_of_the_clusters_is_named(oof: pd.DataFrame) -> None:
    assert describe_clusters(oof) == {"unit": "post", "n": 60, "posts_without_author": 0}
    copied = oof.assign(cluster=oof["cluster"].replace("s_0_1", "s_0_0"))
    assert describe_clusters(copied) == {"unit": "group", "n": 59, "posts_without_author": 0}
    known = oof["author_seen"].where(oof["fold"] == 0, True)
    assert describe_clusters(oof.assign(author_seen=known)) == {"unit": "author", "n": 60, "posts_without_author": 12}
