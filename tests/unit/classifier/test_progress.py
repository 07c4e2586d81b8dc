import logging
import sys

import psutil
import pytest
import torch

from mentallam.classifier import progress
from mentallam.classifier.progress import peak_memory, progress_bar


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "mentallam.classifier.progress"]


def test_what_takes_less_than_an_interval_needs_no_line(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO), progress_bar(1000, "fold 3", "steps") as bar:
        for _ in range(1000):
            bar.update()
    assert lines(caplog) == []
    assert capsys.readouterr().err == ""


def test_a_line_follows_after_each_interval(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_PER_LINE", 0.0)
    with caplog.at_level(logging.INFO), progress_bar(3, "fold 3", "steps") as bar:
        for _ in range(3):
            bar.update()
    assert [line.split(",")[0] for line in lines(caplog)][:4] == [f"fold 3: {n}/3 steps" for n in range(4)]
    assert " so far, " in lines(caplog)[1] and " left" in lines(caplog)[1]


def test_a_terminal_gets_a_bar_and_no_lines(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with caplog.at_level(logging.INFO), progress_bar(3, "fold 3", "steps") as bar:
        bar.update(3)
    shown = capsys.readouterr().err
    assert "\rfold 3: " in shown and shown.endswith("\r")  # it makes place for the line that says what came out
    assert not lines(caplog)


def test_without_a_title_nothing_is_shown(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.INFO), progress_bar(3, None, "posts") as bar:
        bar.update(3)
    assert not lines(caplog)
    assert capsys.readouterr().err == ""


def test_peaks_of_memory_are_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = psutil.Process().memory_info().rss
    peaks = peak_memory()
    assert now * 0.99 < peaks["peak_rss_bytes"] < psutil.virtual_memory().total
    assert ("peak_gpu_bytes" in peaks) == torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 12_345)
    assert peak_memory()["peak_gpu_bytes"] == 12_345
