"""Calls that may fail for a moment, tried again by one policy: to the hub, to a tracking server, to a busy database.

The waiting time grows exponentially, with full jitter: it is drawn between 0 and the current limit, so that the
processes of a study do not come back all at once. A server that names a time (Retry-After) gets it.
"""

import logging
import math
import random
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception

from mentallam import interruption
from mentallam.config_schema import RetriesConfig
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

LONGEST_RETRY_AFTER_S = 300.0
"""The longest time that a server may ask for, in seconds: the hub counts its requests in windows of five minutes."""

# Names of exceptions that mean a lost, refused, late or cut off connection. The libraries have no common class for
# them, and huggingface_hub has changed its library before, so a class is known by its name and those of its bases.
_CONNECTION_FAULTS = {
    *("ConnectionError", "TimeoutError", "IncompleteRead"),  # Python
    *("ChunkedEncodingError", "Timeout"),  # requests
    "ProtocolError",  # urllib3
    *("NetworkError", "RemoteProtocolError", "TimeoutException"),  # httpx
}
_SLICE_S = 0.2  # how often a waiting call looks whether a signal has arrived


class TransientError(Exception):
    """A failure that the caller knows to be worth another attempt; the message is the reason in the log."""


@dataclass(frozen=True)
class Fault:
    """Why a call is worth another attempt.

    Attributes:
        reason: A few words without addresses, which may hold a password.
        retry_after: Seconds that the server asked for, or None.
    """

    reason: str
    retry_after: float | None = None


class _State:
    settings = RetriesConfig()
    count = 0
    lock = threading.Lock()


# Training draws from the generator of the module `random`; a retry must not change what it draws.
_draw = random.SystemRandom()
_inside: ContextVar[bool] = ContextVar("inside", default=False)


def configure(settings: RetriesConfig) -> None:
    """Set the policy of this process; until then the defaults of the schema hold."""
    _State.settings = settings


def count() -> int:
    """Return how many attempts have been repeated in this process so far."""
    return _State.count


def inside_call() -> bool:
    """Return whether this thread is inside `call`, so that a library below must not retry by a policy of its own."""
    return _inside.get()


def call(what: str, function: Callable[[], Result], max_attempts: int | None = None) -> Result:
    """Call a function, and again after each fault that may pass. A call inside another one is made once.

    Args:
        what: What is done, for the log, as in "MLflow's log_batch".
        function: Must be harmless if it is called again although an earlier attempt has succeeded.
        max_attempts: Fewer attempts than the policy's, where somebody waits for the answer.

    Raises:
        Exception: That of the last attempt, or of the first that no other attempt would help.
    """
    if _inside.get():
        return function()
    settings = _State.settings
    if max_attempts is not None:
        settings = replace(settings, max_attempts=min(max_attempts, settings.max_attempts))

    def stop(state: RetryCallState) -> bool:
        return state.attempt_number >= settings.max_attempts or interruption.requested()

    def until_next(state: RetryCallState) -> float:
        return waiting_time(state.attempt_number, _fault_of(state), settings)

    def note(state: RetryCallState) -> None:
        seconds = state.next_action.sleep if state.next_action else 0.0
        attempt = f"attempt {state.attempt_number} of {settings.max_attempts}"
        note_retry(f"{what} failed ({_fault_of(state).reason}, {attempt}); trying again in {seconds:.1f} s")

    retrying = Retrying(
        retry=retry_if_exception(lambda error: find_fault(error) is not None),
        stop=stop,
        wait=until_next,
        sleep=_sleep,
        before_sleep=note,
        reraise=True,
    )
    token = _inside.set(True)
    try:
        return retrying(function)
    finally:
        _inside.reset(token)


def note_retry(message: str) -> None:
    """Count an attempt that will be repeated, and log one line about it."""
    with _State.lock:
        _State.count += 1
    logger.warning("%s", message)


def waiting_time(attempt: int, fault: Fault, settings: RetriesConfig | None = None) -> float:
    """Return the seconds before the next attempt.

    Args:
        attempt: Number of the attempt that failed, from 1 on.
        fault: Why it failed.
        settings: The policy; None for that of this process.
    """
    settings = settings or _State.settings
    limit = min(settings.cap_s, settings.base_ms / 1000 * 2.0 ** min(attempt - 1, 100))
    asked = min(fault.retry_after or 0.0, max(settings.cap_s, LONGEST_RETRY_AFTER_S))
    return max(_draw.uniform(0.0, limit), asked)


def find_fault(error: BaseException) -> Fault | None:
    """Return why an error may pass by itself; None if another attempt would not help.

    An answer of the server decides: 408, 429 and 5xx may pass, any other is final. Without an answer, faults of the
    connection and a locked database may pass.
    """
    if isinstance(error, MentallamError) or not isinstance(error, Exception):
        return None
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, TransientError):
            return Fault(str(each))
        if isinstance(each, ssl.SSLCertVerificationError):
            return None
        if (status := _status(each)) is not None:
            return Fault(f"HTTP {status}", _retry_after(each)) if may_pass(status) else None
    for each in reversed(chain):  # the innermost name says most
        if isinstance(each, sqlite3.OperationalError) and "locked" in str(each):
            return Fault("database is locked")
        if _CONNECTION_FAULTS & {base.__name__ for base in type(each).__mro__}:
            return Fault(type(each).__name__)
    return None


def find_status(error: BaseException) -> int | None:
    """Return the HTTP status of the answer that an error is about; None if there was no answer."""
    return next((status for each in _chain(error) if (status := _status(each)) is not None), None)


def may_pass(status: int) -> bool:
    """Return whether an HTTP status says that another attempt may succeed."""
    return status in (408, 429) or 500 <= status <= 599


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _retry_after(error: BaseException) -> float | None:
    """Return the seconds of the header Retry-After, which holds seconds or a date."""
    headers: Mapping[str, str] = error.response.headers  # type: ignore[attr-defined]
    value = headers.get("Retry-After", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except (TypeError, ValueError):
            return None
        now = datetime.now(timezone.utc)
        seconds = (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp() - now.timestamp()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _fault_of(state: RetryCallState) -> Fault:
    error = state.outcome.exception() if state.outcome else None
    fault = find_fault(error) if error else None
    assert fault is not None  # only faults are retried
    return fault


def _sleep(seconds: float) -> None:
    """Wait, but only until a signal asks the run to stop: then one more attempt is made at once."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not interruption.requested():
        time.sleep(min(left, _SLICE_S))
