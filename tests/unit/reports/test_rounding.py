import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallam.reports.rounding import figure, p_value


@given(st.floats(-1e6, 1e6))
def test_a_figure_is_within_half_a_unit_of_its_last_digit(value: float) -> None:
    assert abs(float(figure(value)) - value) <= 0.0005 + 1e-9
    assert figure(value) != "-0.000"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "not defined"), (0.0009, "< 0.001"), (0.001, "0.001"), (1.0, "1.000"), (0, "< 0.001")]
)
def test_p_values(value: float | None, text: str) -> None:
    assert p_value(value) == text
