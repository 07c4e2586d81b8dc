import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallam.latex import as_latex, number_as_latex

# What is left of an escaped text once each of the project's own sequences is taken away.
OWN = re.compile(
    r"\\text(?:backslash|asciitilde|asciicircum|asciigrave)\{\}|\\[&%$#_{}]|\{[\[*]\}|\$(?:[<>|-]|\\pm|\\downarrow)\$|\{''\}|\{\}"
)


@given(st.text())
def test_no_text_becomes_a_command(text: str) -> None:
    left = OWN.sub("", as_latex(text))
    assert not set(left) & set('\\&%$#_{}~^<>|"`[*\n\r\t')
    assert not re.search(r"--|''|,,", OWN.sub(" ", as_latex(text)))


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50 % of A_1 & B", r"50 \% of A\_1 \& B"),
        ("[2pt] *", "{[}2pt] {*}"),
        ("a--b", "a-{}-b"),
        ("\\input{x}\n\ny", r"\textbackslash{}input\{x\} y"),
        ("0.6 ± 0.1", r"0.6 $\pm$ 0.1"),
    ],
)
def test_a_text_is_printed_as_it_is(text: str, escaped: str) -> None:
    assert as_latex(text) == escaped


def test_a_negative_number_has_a_minus_sign() -> None:
    assert number_as_latex("-0.012 (-0.100, 0.076)") == "$-$0.012 ($-$0.100, 0.076)"
    assert number_as_latex("< 0.001") == "$<$ 0.001"
