"""The notation: what is read, what is refused, and with which line number."""

import numpy as np
import pytest
from constraint_cases import as_text, every_label, formulas, satisfied_by_python
from hypothesis import given, settings

import learningcurves as lc
from learningcurves.constraints.formula import holds, variables
from learningcurves.errors import InvalidInput


@given(formulas(4))
@settings(max_examples=150)
def test_what_is_written_is_what_is_read(formula):
    read = lc.load_constraints(as_text(formula)).lines[0].formula
    labels = every_label(4)
    expected = [satisfied_by_python(formula, row) for row in labels]
    np.testing.assert_array_equal(holds(read, labels), expected)
    assert variables(read) == variables(formula)


def test_not_binds_before_and_before_or():
    read = lc.load_constraints("X0 | ~X1 & X2").lines[0].formula
    assert read == ("or", ("var", 0), ("and", ("not", ("var", 1)), ("var", 2)))
    assert lc.load_constraints("~X0 >> X1").lines[0].formula == ("implies", ("not", ("var", 0)), ("var", 1))


def test_comments_shape_and_names_of_outputs():
    found = lc.load_constraints("# rules\n\nshape [2, 3]  # two rows\nX1.2 >> X.0.1\n")
    assert found.n_variables == 6 and found.lines[0].number == 4 and found.support == (1, 5)
    named = lc.load_constraints("Mustache >> ~No_Beard\nX0.2 | 5_o_Clock", names=["Mustache", "No_Beard", "5_o_Clock"])
    assert named.support == (0, 1, 2) and named.n_variables == 3
    assert lc.load_constraints("shape [1, 9]\nX8 & X.7 & X0.6").support == (6, 7, 8)


def test_a_file_by_path_or_by_name(tmp_path):
    path = tmp_path / "rules.txt"
    path.write_text("X0 >> ~X1\n")
    expected = lc.load_constraints("X0 >> ~X1")
    assert lc.load_constraints(path) == lc.load_constraints(str(path)) == expected
    assert lc.load_constraints(expected) is expected


WRONG = [
    ("X0\nX0 >> (X1", "line 2: a parenthesis is not closed"),
    ("X0 X1", r"line 1: 'X1' was not expected"),
    ("X0 >>", "line 1: expected the name of an output, found the end"),
    ("# c\n\nX0 | | X1", r"line 3: expected the name of an output, found '\|'"),
    ("X0 >> X1 >> X2", "line 1: .*read in two ways.*parentheses"),
    ("X0 & X1 >> X2", "line 1: .*read in two ways"),
    ("X0 >> X1 | X2", "line 1: .*read in two ways"),
    ("X0 == X1", "line 1: '=' was not expected"),
    ("X0 > X1", "line 1: '>' was not expected"),
    ("~", "line 1: expected the name"),
    ("X0\nMale >> X1", "line 2: unknown variable 'Male'.*of the form X0.8"),
    ("__import__('os').system('x')", "line 1: unknown variable '__import__'"),
    ("X2.1", "line 1: unknown variable 'X2.1'.*shape"),
    ("shape [2, 2]\nX0.2", r"line 2: unknown variable 'X0.2': outside of shape \[2, 2\]"),
    ("shape [2, 2]\nX1", "line 2: unknown variable 'X1': outside"),
    ("shape [2, 2\nX0", "line 1: the shape line is not of the form"),
    ("X0\nshape [1, 2]", "line 2: the shape line must be"),
    ("shape [1, 0]\nX0", "line 1: the shape .* holds 0 outputs"),
    ("(" * 150 + "X0" + ")" * 150, "line 1: more than 100 nested"),
    ("", "holds no line"),
    ("# only words\n", "holds no line"),
    ("no/such/file", "there is no file"),
    ("rules.txt", "there is no file"),
    (7, "not a text or a path"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_malformed_lines_are_refused_with_their_number(text, message):
    with pytest.raises(InvalidInput, match=message):
        lc.load_constraints(text)


def test_unknown_names_and_sizes():
    with pytest.raises(InvalidInput, match="line 2: unknown variable 'Beard'.*one of the 2 names"):
        lc.load_constraints("Young\nBeard", names=["Young", "Male"])
    with pytest.raises(InvalidInput, match="line 1: unknown variable 'young'.*do you mean 'Young'"):
        lc.load_constraints("young", names=["Young", "Male"])
    with pytest.raises(InvalidInput, match="line 1: unknown variable 'X9': there are 4 outputs"):
        lc.load_constraints("X9", n_variables=4)
    with pytest.raises(InvalidInput, match=r"`names` holds 'No Beard'"):
        lc.load_constraints("X0", names=["No Beard"])
    with pytest.raises(InvalidInput, match="`names` holds a name twice"):
        lc.load_constraints("a", names=["a", "a"])
    with pytest.raises(InvalidInput, match="`n_variables=3` beside 2 `names`"):
        lc.load_constraints("a", names=["a", "b"], n_variables=3)
    with pytest.raises(InvalidInput, match="`n_variables=0`"):
        lc.load_constraints("X0", n_variables=0)
    with pytest.raises(InvalidInput, match="line 1: the shape .* not the 3"):
        lc.load_constraints("shape [1, 2]\nX0", n_variables=3)


@pytest.mark.parametrize("line", ["X0 => X1", "X0 and X1", "!X0", "X0, X1"])
def test_a_sign_of_another_notation_is_answered_with_ours(line):
    with pytest.raises(InvalidInput, match=r"line 1: .*the signs are ~ \(not\), & \(and\)"):
        lc.load_constraints(line)


def test_an_error_in_a_file_names_it(tmp_path):
    path = tmp_path / "rules.txt"
    path.write_text("# two\nX0 >> X1\nX0 >>\n")
    for source in (path, str(path)):
        with pytest.raises(InvalidInput, match="rules.txt, line 3: expected the name of an output, found the end"):
            lc.load_constraints(source)


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "rules.bin"
    path.write_bytes(b"\xff\xfe\x00X0")
    with pytest.raises(InvalidInput, match="cannot be read as text"):
        lc.load_constraints(path)
