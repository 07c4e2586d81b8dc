import random
import sqlite3
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallam import interruption, retries
from mentallam.config import RetriesConfig
from mentallam.errors import MentallamError
from mentallam.retries import LONGEST_RETRY_AFTER_S, Fault, TransientError, call, find_fault, waiting_time

SETTINGS = st.builds(
    RetriesConfig,
    base_ms=st.integers(1, 10**6),
    cap_s=st.floats(0.001, 10**6),
    max_attempts=st.integers(1, 1000),
)


@pytest.fixture(autouse=True)
def short_waits() -> Iterator[None]:
    retries.configure(RetriesConfig(base_ms=1, max_attempts=4))
    yield
    retries.configure(RetriesConfig())


class AnswerError(Exception):
    """What an HTTP library raises about an answer."""

    def __init__(self, status: int, **headers: str) -> None:
        self.response = SimpleNamespace(
            status_code=status, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


class Failing:
    """A function that raises each error once, then returns the number of its calls."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


@given(st.integers(1, 5000), SETTINGS)
def test_a_wait_is_between_0_and_the_cap(attempt: int, settings: RetriesConfig) -> None:
    seconds = waiting_time(attempt, Fault("HTTP 503"), settings)
    assert 0 <= seconds <= settings.cap_s
    assert seconds <= settings.base_ms / 1000 * 2.0 ** min(attempt - 1, 900)


@given(st.integers(1, 5000), SETTINGS, st.floats(0, 10**9))
def test_a_server_gets_the_time_that_it_asks_for(attempt: int, settings: RetriesConfig, asked: float) -> None:
    seconds = waiting_time(attempt, Fault("HTTP 429", asked), settings)
    longest = max(settings.cap_s, LONGEST_RETRY_AFTER_S)
    assert min(asked, longest) <= seconds <= longest


def test_waits_differ_from_each_other_and_leave_the_seeded_generator_alone() -> None:
    random.seed(1)
    state = random.getstate()
    assert len({waiting_time(20, Fault("HTTP 503"), RetriesConfig()) for _ in range(20)}) == 20
    assert random.getstate() == state


def test_the_defaults_outlast_two_minutes() -> None:
    """The sum of the waits has a mean of four minutes and a deviation of 45 s."""
    sums = [sum(waiting_time(n, Fault(""), RetriesConfig()) for n in range(1, 15)) for _ in range(2000)]
    assert sum(total < 120 for total in sums) < 40  # 0.4 % expected, so eight


@pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504, 599])
def test_these_answers_may_pass(status: int) -> None:
    assert call("it", Failing(AnswerError(status), AnswerError(status))) == 3
    assert find_fault(AnswerError(status, Retry_After="7")) == Fault(f"HTTP {status}", 7.0)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422])
def test_these_answers_are_final(status: int) -> None:
    function = Failing(AnswerError(status), AnswerError(status))
    with pytest.raises(AnswerError):
        call("it", function)
    assert function.calls == 1


def test_a_date_in_retry_after_is_understood_and_nonsense_is_not() -> None:
    at = datetime.now(timezone.utc) + timedelta(seconds=100)
    found = find_fault(AnswerError(429, Retry_After=format_datetime(at, usegmt=True)))
    assert found and found.retry_after and 90 < found.retry_after <= 100
    past = find_fault(AnswerError(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"))
    assert past and past.retry_after == 0.0
    for nonsense in ("soon", "nan", "inf", ""):
        assert find_fault(AnswerError(429, Retry_After=nonsense)) == Fault("HTTP 429", None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionResetError(), "ConnectionResetError"),
        (TimeoutError(), "TimeoutError"),
        (sqlite3.OperationalError("database is locked"), "database is locked"),
        (TransientError("model.safetensors differs"), "model.safetensors differs"),
    ],
)
def test_these_errors_may_pass_also_as_the_cause_of_another(error: Exception, reason: str) -> None:
    assert find_fault(error) == Fault(reason)
    outer = RuntimeError("http://name:secret@host failed")
    outer.__cause__ = error
    assert find_fault(outer) == Fault(reason)


def test_these_errors_do_not_pass() -> None:
    certificate = ConnectionError()
    certificate.__cause__ = ssl.SSLCertVerificationError()
    for error in (certificate, ValueError(), sqlite3.OperationalError("no such table"), OSError(28, "No space left")):
        assert find_fault(error) is None, error


def test_a_stop_during_a_fault_is_not_a_fault() -> None:
    for stop in (KeyboardInterrupt(), MentallamError("stopped")):
        stop.__context__ = ConnectionResetError()
        function = Failing(stop)
        with pytest.raises(type(stop)):
            call("it", function)
        assert function.calls == 1


def test_the_last_error_is_raised_after_all_attempts(caplog: pytest.LogCaptureFixture) -> None:
    before, errors = retries.count(), [ConnectionResetError(str(n)) for n in range(9)]
    with pytest.raises(ConnectionResetError, match="^3$"):
        call("the list of files", Failing(*errors))
    assert retries.count() == before + 3
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        f"the list of files failed (ConnectionResetError, attempt {n} of 4)" for n in (1, 2, 3)
    ]
    with pytest.raises(ConnectionResetError, match="^5$"):
        call("it", Failing(*errors[4:]), max_attempts=2)


def test_a_call_inside_a_call_is_made_once() -> None:
    """Two policies must not multiply."""
    inner = Failing(*(ConnectionResetError() for _ in range(100)))
    with pytest.raises(ConnectionResetError):
        call("outer", lambda: call("inner", inner))
    assert inner.calls == 4
    assert not retries.inside_call()


def test_a_noted_signal_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler gives a run 30 seconds; the wait here would be five minutes."""
    monkeypatch.setattr(interruption._State, "noted", 15)
    function = Failing(*(AnswerError(429, Retry_After="300") for _ in range(9)))
    with pytest.raises(AnswerError):
        call("it", function)
    assert function.calls == 1
    monkeypatch.setattr(interruption._State, "noted", None)

    def and_then_a_signal() -> None:
        function()

    monkeypatch.setattr(retries.time, "sleep", lambda seconds: setattr(interruption._State, "noted", 15))
    with pytest.raises(AnswerError):
        call("it", and_then_a_signal)
    assert function.calls == 3
