from pathlib import Path

from mentallam.model_folders import ENSEMBLE_FILE, FACTS, fold_folder, parts_in, split_parts


def test_the_parts_of_each_kind_of_folder(tmp_path: Path) -> None:
    assert parts_in(tmp_path) == parts_in(tmp_path / "nowhere") == []
    folds = [fold_folder(tmp_path, fold) for fold in (2, 9, 10)]
    for fold in reversed(folds):
        fold.mkdir()
        (fold / FACTS).touch()
    fold_folder(tmp_path, 3).mkdir()  # without facts it is no fold
    (tmp_path / "calibration" / ENSEMBLE_FILE).parent.mkdir()
    (tmp_path / "calibration" / ENSEMBLE_FILE).touch()
    assert parts_in(tmp_path / "calibration") == []  # of folds that are gone
    assert parts_in(tmp_path) == []  # checkpoints side by side need not belong together
    (tmp_path / ENSEMBLE_FILE).touch()
    assert parts_in(tmp_path) == [tmp_path / ENSEMBLE_FILE, *folds]
    assert split_parts(parts_in(tmp_path)) == (tmp_path / ENSEMBLE_FILE, folds)
    assert split_parts(parts_in(folds[0])) == (None, folds[:1])
