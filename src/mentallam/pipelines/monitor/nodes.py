"""Nodes of monitor; the other nodes are functions of `serving` and `reports`."""

import logging
from typing import Any

from mentallam.errors import MentallamError
from mentallam.serving.drift import MonitorOptions

logger = logging.getLogger(__name__)


def raise_alerts(found: dict[str, Any], report: str, options: MonitorOptions) -> None:
    """Log each alert, and fail if `monitor.fail` says so; what was found is saved by then.

    Raises:
        MentallamError: There is an alert.
    """
    alerts = found["alerts"]
    for sentence in alerts:
        logger.warning("%s", sentence)
    if alerts and options.fail:
        raise MentallamError(f"monitoring raised {len(alerts)} alerts (monitor.fail=true): {alerts[0]}")
    if not alerts:
        logger.info("no alert")
