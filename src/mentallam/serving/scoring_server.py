"""How MLflow's scoring server (`mlflow models serve`) answers a request that it can't use: one sentence, no post.

MLflow would send back a stack trace and the request, and offers no hook for another answer. So one function of its
server is replaced, in the server's process only.
"""

import logging
import os
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from io import BytesIO
from json import JSONDecodeError
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import scoring_server

from mentallam.errors import MentallamError, causes

logger = logging.getLogger(__name__)

Invocations = Callable[[bytes, str | None, Any, Any], scoring_server.InvocationsResponse]

_NOT_READABLE = (
    "the request can't be read: send JSON with one of dataframe_records, dataframe_split, instances and inputs, or CSV "
    "with a header; each row has the same columns, text and optionally post_id, criterion_id or criterion, all strings"
)
_FAILED_IN_PREDICT = "Encountered an unexpected error"  # how MLflow's message begins where the model itself failed


def is_scoring_server() -> bool:
    """Return whether this process is MLflow's scoring server."""
    return scoring_server._SERVER_MODEL_PATH in os.environ


def answer_errors_in_a_sentence() -> None:
    """Replace the function that answers requests."""
    scoring_server.invocations = without_request(scoring_server.invocations)


def without_request(invocations: Invocations) -> Invocations:
    """Return MLflow's function that answers a request, with errors that hold one sentence and nothing of the request.

    Status 400 stands for a request that can't be used, 500 for a failure of the program, whose place goes to the log.

    Args:
        invocations: `mlflow.pyfunc.scoring_server.invocations`.
    """

    @wraps(invocations)
    def answer(
        data: bytes, content_type: str | None, model: Any, input_schema: Any
    ) -> scoring_server.InvocationsResponse:
        try:
            if (content_type or "").startswith(scoring_server.CONTENT_TYPE_CSV):
                _refuse_nameless_column(data)
            return invocations(data, content_type or "", model, input_schema)
        except Exception as error:
            if (sentence := _sentence(error)) is not None:
                raise MlflowException(sentence, INVALID_PARAMETER_VALUE) from None
            failure = list(causes(error))[-1]
            place = traceback.extract_tb(failure.__traceback__)[-1]
            # The exception's own words may hold a part of a post.
            logger.error("a request failed: %s in %s, line %d", type(failure).__name__, place.filename, place.lineno)
            raise MlflowException(
                f"the prediction failed with {type(failure).__name__}; the server's log names the place", INTERNAL_ERROR
            ) from None

    return answer


def _refuse_nameless_column(data: bytes) -> None:
    """Refuse a CSV file whose rows are longer than its header: pandas would take the first value as a row's name.

    Raises:
        MentallamError: It is such a file.
    """
    with suppress(ValueError):  # MLflow reports a file that can't be read
        if not isinstance(pd.read_csv(BytesIO(data), nrows=1).index, pd.RangeIndex):
            raise MentallamError(
                "the first row has more values than the header; put a text with commas in double quotes"
            )


def _sentence(error: Exception) -> str | None:
    """Return what is wrong with the request, or None if the program failed."""
    for cause in causes(error):
        if isinstance(cause, MentallamError):
            return cause.message
        if isinstance(cause, JSONDecodeError):
            return f"the request is not valid JSON: {cause.msg} at line {cause.lineno}, column {cause.colno}"
        if isinstance(cause, UnicodeError):
            return "the request is not valid Unicode; encode it as UTF-8"
        if isinstance(cause, RecursionError):
            return _NOT_READABLE
    if isinstance(error, MlflowException) and not error.message.startswith(_FAILED_IN_PREDICT):
        return _NOT_READABLE
    return None
