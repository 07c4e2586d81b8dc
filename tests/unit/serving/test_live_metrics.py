import socket

import httpx
import pytest

from mentallam.errors import MentallamError
from mentallam.serving.live_metrics import LiveMetrics
from tests.servers import free_port


def test_a_request_counts_as_it_ends() -> None:
    metrics, port = LiveMetrics(), free_port()
    metrics.serve(f"127.0.0.1:{port}")
    with metrics.request():
        pass
    for error in (MentallamError("the text is empty"), RuntimeError("Marzipan")):
        with pytest.raises(type(error)), metrics.request():
            raise error
    shown = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    for result in ("answered", "refused", "failed"):
        assert f'mentallam_served_requests_total{{result="{result}"}} 1.0' in shown
    assert "mentallam_served_request_seconds_count 3.0" in shown
    assert "Marzipan" not in shown


@pytest.mark.parametrize("address", ["", "localhost", "9464x", "127.0.0.1:", "70000", "-1"])
def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(MentallamError, match="is no address: give a port such as 9464, or HOST:PORT"):
        LiveMetrics().serve(address)


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MentallamError, match=f"MENTALLAM_METRICS={port} can't be served"):
            LiveMetrics().serve(str(port))


def test_two_models_of_one_process_do_not_share_figures() -> None:
    LiveMetrics()
    LiveMetrics()
