import numpy as np
import pandas as pd
import pytest

from mentallam.classifier.refit import refit_decision
from mentallam.evaluation.calibration import Calibration, fit_calibration
from mentallam.evaluation.decision import Decision, Thresholds


def test_a_refit_decides_by_all_out_of_fold_logits_and_the_mean_thresholds() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(200) % 4 == 0
    oof = pd.DataFrame({"label": label.astype(int), "logit": label + rng.normal(size=200)})
    folds = [
        Decision(Calibration(9.0, 9.0), Thresholds(0.2, {"a": 0.4})),
        Decision(Calibration(), Thresholds(0.4, {"b": 0.1})),
    ]
    found = refit_decision("platt", oof, folds)
    assert found.calibration == fit_calibration("platt", oof["label"], oof["logit"])
    assert found.thresholds.common == pytest.approx(0.3)
    # A fold without a threshold of a criterion decides it by the common one.
    assert found.thresholds.by_criterion == pytest.approx({"a": 0.4, "b": 0.15})
    assert refit_decision("none", oof, folds).calibration == Calibration()
