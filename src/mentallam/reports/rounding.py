"""The rounding rule of reports and printed tables.

Figures have three decimals, the two bounds of an interval as many as their estimate, and p-values below 0.001 are
shown as "< 0.001". Halves are rounded as Python's `format` does, from the exact binary value. What rounds to zero has
no sign.
"""

UNDEFINED = "not defined"


def figure(value: float | None) -> str:
    """Write a figure with three decimals, or that it is not defined."""
    if value is None:
        return UNDEFINED
    text = f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text


def p_value(value: float | None) -> str:
    """Write a p-value with three decimals, or that it is below 0.001."""
    return "< 0.001" if value is not None and value < 0.001 else figure(value)
