import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from mentallam.evaluation.metrics import criterion_metrics
from mentallam.evaluation.plots import (
    confusion_matrix_figure,
    criterion_f1_figure,
    fold_precision_recall_figure,
    oof_figures,
    precision_recall_figure,
    threshold_figure,
)
from mentallam.evaluation.thresholds import best_threshold, sweep

pytestmark = pytest.mark.filterwarnings("error")


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def saved(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def test_the_figures_of_the_report_are_drawn_labelled_and_left_to_nobody(
    oof: pd.DataFrame, criteria: pd.DataFrame
) -> None:
    figures = oof_figures(oof, criteria)
    assert list(figures) == ["oof_precision_recall", "oof_confusion", "f1_per_criterion"]
    for figure in figures.values():
        assert saved(figure).startswith(b"\x89PNG")
        assert figure.get_suptitle() and figure.axes[0].get_xlabel()
    assert plt.get_fignums() == []


def test_the_confusion_matrix_shows_pairs_and_shares() -> None:
    figure = confusion_matrix_figure([0, 0, 0, 1], [0, 0, 1, 1], "three and one")
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells == ["2\n66.7% of row", "1\n33.3% of row", "0\n0.0% of row", "1\n100.0% of row"]
    assert figure.get_suptitle() == "three and one"


def test_the_confusion_matrix_has_both_labels_even_where_one_occurs() -> None:
    cells = [text.get_text() for text in confusion_matrix_figure([0, 0], [0, 0], "one label").axes[0].texts]
    assert cells[0].startswith("2\n") and len(cells) == 4


def test_precision_and_recall_show_the_point_of_the_threshold() -> None:
    figure = precision_recall_figure([0, 1, 0, 1], [0.1, 0.9, 0.6, 0.4], 0.5, "a fold")
    marker = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert (marker.get_xdata()[0], marker.get_ydata()[0]) == (0.5, 0.5)
    assert legend(figure)[1:] == ["threshold 0.50 (F1 0.500)", "chance (base rate 0.500)"]


def test_without_positive_pairs_the_figure_says_so() -> None:
    figure = precision_recall_figure([0, 0], [0.1, 0.9], 0.5, "a fold")
    assert "No pair is positive" in figure.axes[0].texts[0].get_text()


def test_a_fold_without_positive_pairs_has_no_curve(oof: pd.DataFrame) -> None:
    oof.loc[oof["fold"] == 2, "label"] = 0
    names = [name.split(" (")[0] for name in legend(fold_precision_recall_figure(oof))]
    assert names == ["fold 0", "fold 1", "fold 3", "fold 4", "pooled", "chance"]
    assert saved(fold_precision_recall_figure(oof.assign(label=0)))


def test_the_threshold_figure_marks_the_choice(oof: pd.DataFrame) -> None:
    chosen = best_threshold(oof["label"], oof["probability"])
    figure = threshold_figure(sweep(oof["label"], oof["probability"]), chosen)
    assert legend(figure) == [
        "precision",
        "recall",
        "F1",
        f"chosen: {chosen.threshold:.2f} (F1 {chosen.f1:.3f})",
    ]
    f1 = figure.axes[0].lines[2]
    assert np.interp(chosen.threshold, f1.get_xdata(), f1.get_ydata()) == pytest.approx(chosen.f1)


def test_every_criterion_has_its_bar(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    rows = criterion_metrics(oof, criteria)
    axes = criterion_f1_figure(rows, 0.5).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [row["f1"] for row in rows]
    assert axes.get_yticklabels()[8].get_text() == f"A.9 suicidal thoughts (n+ = {rows[8]['n_positive']})"
