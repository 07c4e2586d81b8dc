"""MLflow's client as this project uses it: one policy of retries, nothing created twice, metrics that can wait.

MLflow repeats a request by a policy of its own, at a level where it can't know whether a lost answer has left a run
behind. Inside the calls of a `retrying_client` each request is sent once, and `mentallam.retries` repeats the call.
"""

import logging
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn, TypeVar, cast

import requests
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts as mlflow_download_artifacts
from mlflow.entities import LoggedModel, LoggedModelOutput, Metric
from mlflow.entities import Run as MlflowRun
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.utils import rest_utils

from mentallam import retries
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

TOKEN_TAG = "mentallam.token"
"""Tag of everything that is created: a value of its own, by which a creation whose answer was lost is found again."""

# MLflow takes 1000, but compares each with those that it has if an answer was lost and they are sent again.
_METRICS_PER_REQUEST = 200
_REFUSALS = (401, 403)
# A server that does not answer may hold up a training step for these seconds, once per waiting time.
_PATIENCE_S = 10.0
# MLflow reports the errors of its threads as text only.
_BROKEN_OFF = re.compile("IncompleteRead|ChunkedEncodingError")

_patience: ContextVar[float | None] = ContextVar("patience", default=None)


def retrying_client() -> MlflowClient:
    """Return a client whose calls are repeated after a fault that may pass.

    What it creates (runs, logged models and their links, registered models and versions) it creates once, even if an
    answer is lost.
    Its calls raise a `MentallamError` if the store refuses the account or stays away, and otherwise what MLflow's do.
    """
    return cast(MlflowClient, _RetryingClient(MlflowClient()))


def download_artifacts(address: str, folder: Path | None = None) -> str:
    """Return the local path of artifacts; download them, again after a body that broke off.

    MLflow downloads in threads, in which it repeats requests by its own policy.

    Args:
        address: A URI; `runs:/` hides the reason of a failure, so name the run's artifact URI instead.
        folder: Where to put them; None for a temporary folder.
    """

    def download() -> str:
        try:
            return str(mlflow_download_artifacts(address, dst_path=str(folder) if folder else None))
        except MlflowException as error:
            if _BROKEN_OFF.search(str(error)):
                raise retries.TransientError("a body broke off") from error
            raise

    return _call("download_artifacts", download)


class MetricQueue:
    """The metrics of one run: sent at once, or kept in order while the store is away.

    A step of the training waits at most a few seconds for the store, and after a failure only when the policy's waiting
    time is over. Not for several threads.

    Args:
        run_id: The run.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._waiting: list[Metric] = []
        self._failures = 0
        self._next_attempt = 0.0  # of the monotonic clock

    def log(self, metrics: Sequence[Metric]) -> None:
        """Send metrics, after those that wait; keep them if the store is away.

        Raises:
            MlflowException: The store refuses them, which another attempt would not change.
            MentallamError: It refuses the account.
        """
        self._waiting += metrics
        if monotonic() < self._next_attempt:
            return
        try:
            with _one_short_attempt():
                self._send()
        except Exception as error:
            fault = retries.find_fault(error)
            if fault is None:
                _raise_explained("log_batch", error)
            self._failures += 1
            seconds = retries.waiting_time(self._failures, fault)
            self._next_attempt = monotonic() + seconds
            retries.note_retry(
                f"{len(self._waiting)} metrics wait for the tracking store ({fault.reason}); the training goes on, "
                f"next attempt in {seconds:.1f} s"
            )

    def flush(self) -> None:
        """Send what waits, with all attempts of the policy.

        Raises:
            MentallamError: The store stays away, or refuses the account; the metrics are kept.
        """
        if self._waiting:
            _call("log_batch", self._send)

    def _send(self) -> None:
        while batch := self._waiting[:_METRICS_PER_REQUEST]:
            # The store takes a point that it already has only once, so an answer that was lost does no harm.
            MlflowClient().log_batch(self._run_id, metrics=batch)
            del self._waiting[: len(batch)]
        self._failures, self._next_attempt = 0, 0.0


class _RetryingClient:
    """A stand-in for MLflow's client; each call from outside is repeated as a whole."""

    def __init__(self, inner: MlflowClient) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return partial(_repeated, name, found) if callable(found) else found

    def create_run(self, experiment_id: str, *, tags: dict[str, Any] | None = None, **others: Any) -> MlflowRun:
        tags = _with_token(tags)
        return _create_once(
            "create_run",
            lambda: self._inner.create_run(experiment_id, tags=tags, **others),
            lambda: self._inner.search_runs([experiment_id], _has_token(tags), max_results=1),
        )

    def create_logged_model(
        self, experiment_id: str, name: str | None = None, *, tags: dict[str, str] | None = None, **others: Any
    ) -> LoggedModel:
        tags = _with_token(tags)
        return _create_once(
            "create_logged_model",
            lambda: self._inner.create_logged_model(experiment_id, name, tags=tags, **others),
            lambda: self._inner.search_logged_models([experiment_id], _has_token(tags), max_results=1),
        )

    def log_outputs(self, run_id: str, models: list[LoggedModelOutput]) -> None:
        wanted = {model.model_id for model in models}

        def find() -> list[LoggedModelOutput]:
            found = self._inner.get_run(run_id).outputs
            return [output for output in (found.model_outputs if found else []) if output.model_id in wanted]

        _create_once("log_outputs", lambda: self._inner.log_outputs(run_id, models), find)

    def create_registered_model(self, name: str, **others: Any) -> RegisteredModel:
        return _create_once(
            "create_registered_model",
            lambda: self._inner.create_registered_model(name, **others),
            lambda: self._inner.search_registered_models(f'name = "{name}"', max_results=1),
        )

    def create_model_version(self, name: str, *, tags: dict[str, Any] | None = None, **others: Any) -> ModelVersion:
        tags = _with_token(tags)

        def find() -> list[ModelVersion]:
            found = self._inner.search_model_versions(f'name = "{name}"')
            return [version for version in found if version.tags.get(TOKEN_TAG) == tags[TOKEN_TAG]]

        return _create_once(
            "create_model_version", lambda: self._inner.create_model_version(name, tags=tags, **others), find
        )


def _repeated(name: str, method: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
    return _call(name, lambda: method(*arguments, **named))


def _create_once(name: str, create: Callable[[], Result], find: Callable[[], Sequence[Result]]) -> Result:
    """Create something; before another attempt, look whether an earlier one has created it."""
    tried = False

    def attempt() -> Result:
        nonlocal tried
        if tried and (found := find()):
            return found[0]
        tried = True
        return create()

    return _call(name, attempt)


def _with_token(tags: dict[str, Any] | None) -> dict[str, Any]:
    return {TOKEN_TAG: uuid.uuid4().hex, **(tags or {})}


def _has_token(tags: dict[str, Any]) -> str:
    return f"tags.`{TOKEN_TAG}` = '{tags[TOKEN_TAG]}'"


def _call(name: str, function: Callable[[], Result]) -> Result:
    try:
        return retries.call(f"MLflow's {name}", function)
    except Exception as error:
        _raise_explained(name, error)


def find_refusal(name: str, error: Exception) -> MentallamError | None:
    """Return what to do if a server refuses the account; None for any other error."""
    status = retries.find_status(error)
    if status == 401:
        return MentallamError(
            "the tracking server does not know this account (HTTP 401): set MLFLOW_TRACKING_TOKEN, or "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if status == 403:
        return MentallamError(
            f"the tracking server forbids {name} to this account (HTTP 403): ask its owner for the right to write, or "
            f"name another account in MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return None


def _raise_explained(name: str, error: Exception) -> NoReturn:
    """Raise what a user can do, or the error itself."""
    if fault := retries.find_fault(error):
        raise MentallamError(
            f"the tracking store fails again and again ({fault.reason}): make it available, then run the same command "
            f"again"
        ) from error
    raise find_refusal(name, error) or error


@contextmanager
def _one_short_attempt() -> Iterator[None]:
    token = _patience.set(_PATIENCE_S)
    try:
        yield
    finally:
        _patience.reset(token)


# MLflow's sender of requests, which repeats them.
_http: Any = rest_utils
_send_repeatedly: Callable[..., requests.Response] = _http._get_http_response_with_retries


def _send(
    method: str, url: str, max_retries: int, factor: float, jitter: float, codes: Any, *rest: Any, **named: Any
) -> requests.Response:
    """Send a request of MLflow's: once inside our calls, and by our policy where kedro-mlflow or MLflow calls.

    MLflow's sender forgets the answer, and with it the time that the server asks for, and gives up at one that breaks
    off.
    """
    patience = _patience.get()
    if patience is not None:
        named["timeout"] = min(patience, named.get("timeout") or patience)

    def send_once() -> requests.Response:
        response = _send_repeatedly(method, url, 0, factor, jitter, (), *rest, **named)
        if retries.may_pass(response.status_code) or response.status_code in _REFUSALS:
            response.raise_for_status()
        return response

    return send_once() if retries.inside_call() or patience is not None else _call("request", send_once)


_http._get_http_response_with_retries = _send
