"""Features in another size: as torch computes it, and in operators that a file can have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional

from training.networks.resampling import area_means, enlarged, factor


def exported(
    resize: Callable[[Tensor, int, int], Tensor], features: Tensor, height: int, width: int
) -> ExportedProgram:
    class Resizes(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return resize(features, height, width)

    return torch.export.export(Resizes(), (features,))


@given(rows=st.integers(3, 40), columns=st.integers(3, 40), height=st.integers(1, 45), width=st.integers(1, 45))
@example(rows=24, columns=36, height=12, width=12)
@example(rows=24, columns=36, height=16, width=24)
@example(rows=24, columns=36, height=16, width=18)
@settings(max_examples=12, deadline=None)
def test_area_means_are_exported_as_products_where_no_fast_form_fits(
    rows: int, columns: int, height: int, width: int
) -> None:
    features = torch.rand(2, 3, rows, columns)
    program = exported(area_means, features, height, width)
    divides = rows % height == 0 and columns % width == 0
    two_of_three = 2 * rows == 3 * height and 2 * columns == 3 * width
    assert ("matmul" in str(program.graph)) == (not divides and not two_of_three)
    assert ("pixel_shuffle" in str(program.graph)) == two_of_three
    expected = functional.adaptive_avg_pool2d(features, (height, width))
    torch.testing.assert_close(program.module()(features), expected)


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), more=st.tuples(st.integers(0, 60), st.integers(0, 60)))
@example(rows=5, columns=5, more=(19, 31))
@settings(max_examples=12, deadline=None)
def test_features_are_enlarged_by_factors_in_a_file(rows: int, columns: int, more: tuple[int, int]) -> None:
    features, height, width = torch.rand(2, 3, rows, columns), rows + more[0], columns + more[1]
    program = exported(enlarged, features, height, width)
    assert f"[{factor(rows, height)}, {factor(columns, width)}]" in str(program.graph)
    torch.testing.assert_close(program.module()(features), enlarged(features, height, width))


@given(old=st.integers(1, 2048), more=st.integers(0, 6000))
@example(old=3, more=2)  # 5 / 3 as float32, times 3, is below 5
def test_a_factor_makes_so_many_cells(old: int, more: int) -> None:
    found = factor(old, old + more)
    assert np.float32(found) == found
    assert int(np.float32(found) * np.float32(old)) == int(found * old) == old + more
