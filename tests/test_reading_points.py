"""Points read from tables: row for row, or a sentence that names the line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import densitometer as dm
from densitometer.system.files import read_points, write_points


def table(folder, text):
    path = folder / "x.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("0.0,1.0\n2,3\n", [[0, 1], [2, 3]]),
        ("1,0\n0,1\n", [[1, 0], [0, 1]]),
        ("2019,2020\n1,2\n", [[2019, 2020], [1, 2]]),
        ("1e3,-.5\n+1.,3E-2", [[1000, -0.5], [1, 0.03]]),
        ("x,y\n0,1\n", [[0, 1]]),
        ("\ufeffx,y\r\n0,1\r\n2,3\r\n", [[0, 1], [2, 3]]),
        ("x1,nanotesla\n0,1\n", [[0, 1]]),
        ("# x,y\n0,1\n", [[0, 1]]),
        (' "x, in m" , "2nd y"'.replace("2nd", "second") + "\n 0 , 1 \n", [[0, 1]]),
        ("x\n0\n1\n", [[0], [1]]),
        ("x,y\n", np.empty((0, 2))),
    ],
)
def test_every_line_below_the_names_is_a_row(text, points, tmp_path):
    read = read_points(table(tmp_path, text))
    assert read.dtype == np.float64
    assert read.shape == np.shape(points)
    np.testing.assert_array_equal(read, points)


@pytest.mark.parametrize(
    ("names", "point"),
    [("0,1", "0.0,1.0"), ("1,2", "1.0,2.0"), ('"0","1"', "0.0,1.0"), ("0", "0.0"), (" 1", "1.0")],
)
def test_column_numbers_are_asked_about(names, point, tmp_path):
    path = table(tmp_path, f"{names}\n" + ",".join(["0.5"] * (names.count(",") + 1)))
    with pytest.raises(dm.UsageError) as told:
        read_points(path)
    assert str(told.value) == (
        f"cannot read {path}: line 1 has column numbers, which may be names or a point; remove it "
        f"if they are names, or write the point as {point}."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it is empty"),
        ("\n", "line 1 has '', which is no number"),
        ("\n0,1\n", "line 1 has '', which is no number"),
        ("x,2\n0,1\n", "line 1 has 'x', which is no number"),
        ("0.5,y\n0,1\n", "line 1 has 'y', which is no number"),
        (",0,1\n0,.5,.2\n", "line 1 has '', which is no number"),
        ('"","x","y"\n"1",.5,.2\n', "line 1 has '', which is no number"),
        ("NA,NA\n0,1\n", "line 1 has 'NA', which is no number"),
        ("null\n1\n", "line 1 has 'null', which is no number"),
        ("1_000,2_000\n0,1\n", "line 1 has '1_000', which is no number"),
        ("0x10,0x20\n0,1\n", "line 1 has '0x10', which is no number"),
        ("1+2j,3\n", "line 1 has '1+2j', which is no number"),
        ("\uff11,\uff12\n0,1\n", "line 1 has '\uff11', which is no number"),
        ("0.5;0.2\n", "line 1 has '0.5;0.2', which is no number"),
        ("x;y\n0,5;0,2\n", "line 2 has 3 values, line 1 has 1"),
        ("0,5;0,2\n", "line 1 has '5;0', which is no number"),
        ("0.5 0.2\n", "line 1 has '0.5 0.2', which is no number"),
        ('"0.5","0.2"\n', "line 1 has '\"0.5\"', which is no number"),
        ("0.5,1,\n0.2,3,\n", "line 1 has '', which is no number"),
        ("x,y\n0.5,1,\n", "line 2 has 3 values, line 1 has 2"),
        ("x,y,z\n0.5,1\n", "line 2 has 2 values, line 1 has 3"),
        ("0.5,1\n2\n3,4\n", "line 2 has 1 value, line 1 has 2"),
        ("0.5,1\n\n3,4\n", "line 2 is empty"),
        ("0.5,1\n3,4\n\n", "line 3 is empty"),
        ("x\n1\n \n3\n", "line 3 is empty"),
        ("0.5,1\n,\n3,4\n", "line 2 has '', which is no number"),
        ("0.5,1\n# two,three\n3,4\n", "line 2 has '# two', which is no number"),
        ("0.5,1 # one\n", "line 1 has '1 # one', which is no number"),
        ("x,y\n0.5,1\nx,y\n2,3\n", "line 3 has 'x', which is no number"),
        ("x,y\n0.5,1\n2,1_0\n", "line 3 has '1_0', which is no number"),
        ("0.5,1\n2,nan\n", "line 2 has nan, no finite number"),
        ("x,y\n0.5,1\n-inf,2\n", "line 3 has -inf, no finite number"),
        ("nan,nan\n0,1\n", "line 1 has nan, no finite number"),
        ("0.5,1e400\n", "line 1 has inf, no finite number"),
        (b"x,y\n0.5,1\n\xff,2\n", "it is damaged or no .csv file"),
    ],
)
def test_what_is_no_point_is_refused_with_its_line(text, sentence, tmp_path):
    path = table(tmp_path, text)
    with pytest.raises(dm.UsageError) as told:
        read_points(path)
    assert str(told.value).startswith(f"cannot read {path}: {sentence}")
    assert "\n" not in str(told.value)


def test_the_line_is_named_however_far_down(tmp_path):
    lines = ["0.5,1"] * 200_000
    lines[123_455] = "0.5,one"
    with pytest.raises(dm.UsageError, match="line 123456 has 'one'"):
        read_points(table(tmp_path, "\n".join(lines)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=5),
        elements=st.one_of(
            st.integers(-3, 3).map(float),
            st.floats(width=32, allow_nan=False, allow_infinity=False),
        ),
    )
)
def test_what_was_written_is_read_to_the_last_bit(tmp_path_factory, points):
    folder = tmp_path_factory.mktemp("written")
    for name in ("x.csv", "x.npy"):
        write_points(folder / name, points)
        read = read_points(folder / name)
        np.testing.assert_array_equal(read.astype(np.float32), points)
        assert read.shape == points.shape


@pytest.mark.parametrize("kind", ["f8", "f4", "i8", "?", "c16"])
def test_an_array_in_a_file_is_read_as_it_is(kind, tmp_path):
    points = np.arange(20).reshape(10, 2).astype(kind)
    np.save(tmp_path / "x.npy", points)
    read = read_points(tmp_path / "x.npy")
    assert read.dtype == points.dtype
    assert not isinstance(read, np.memmap)
    np.testing.assert_array_equal(read, points)
