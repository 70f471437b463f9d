"""Pairs rows with columns of a table so that the sum over all pairs is as large as it can be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
Pairs = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]


def best_pairs(weights: Float64Array) -> Pairs:
    """Return the pairs of the largest sum. Each row and each column is in one pair at most.

    The answer is exact (Hungarian method with shortest augmenting paths, Jonker and Volgenant 1987). A greedy choice is
    not: where objects cross, it may take the best pair and leave two others without a partner.

    Args:
        weights: float64 `[n, m]`, finite. Only pairs with a weight above 0 are made.

    Returns:
        Rows and columns of the pairs, sorted by row.
    """
    first, second = np.nonzero(weights > 0)
    # Most pairs are without an alternative: few objects overlap. Only the others need the search.
    of_rows = np.bincount(first, minlength=weights.shape[0])
    of_columns = np.bincount(second, minlength=weights.shape[1])
    is_open = (of_rows[first] > 1) | (of_columns[second] > 1)
    if not is_open.any():
        return first, second
    # np.unique takes ten times as long.
    rows, columns = np.zeros(weights.shape[0], np.bool_), np.zeros(weights.shape[1], np.bool_)
    rows[first[is_open]] = columns[second[is_open]] = True
    of_row = np.full(weights.shape[0], -1, np.intp)
    of_row[first[~is_open]] = second[~is_open]
    _pair_all(weights, np.flatnonzero(rows), np.flatnonzero(columns), of_row)
    made = np.flatnonzero(of_row >= 0)
    return made, of_row[made]


def _pair_all(
    weights: Float64Array, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], of_row: npt.NDArray[np.intp]
) -> None:
    """Write the column of each of some rows that has one."""
    costs = -np.maximum(weights[rows[:, None], columns], 0.0)
    is_wide = len(rows) <= len(columns)
    costs = costs if is_wide else np.ascontiguousarray(costs.T)
    found = _cheapest_columns(costs)
    places = np.flatnonzero(costs[np.arange(len(found)), found] < 0)
    if is_wide:
        of_row[rows[places]] = columns[found[places]]
    else:
        of_row[rows[found[places]]] = columns[places]


def _cheapest_columns(costs: Float64Array) -> npt.NDArray[np.intp]:
    """Return a column for each row, at the least total cost. There are at least as many columns as rows."""
    count = len(costs)
    # Prices such that no cost is below the sum of the prices of its row and column, and is equal to it for all pairs.
    row_prices, column_prices = costs.min(axis=1), np.zeros(costs.shape[1])
    of_row = np.full(count, -1, np.intp)
    of_column = np.full(costs.shape[1], -1, np.intp)
    # Most rows get their cheapest column at once: few objects overlap.
    for row, column in enumerate(costs.argmin(axis=1).tolist()):
        if of_column[column] < 0:
            of_row[row], of_column[column] = column, row
    for row in np.flatnonzero(of_row < 0).tolist():
        _add_row(row, costs, row_prices, column_prices, of_row, of_column)
    return of_row


def _add_row(
    start: int,
    costs: Float64Array,
    row_prices: Float64Array,
    column_prices: Float64Array,
    of_row: npt.NDArray[np.intp],
    of_column: npt.NDArray[np.intp],
) -> None:
    """Give a row a column: find the cheapest way of pairs that change hands, up to a free column, and change them."""
    distances = np.full(costs.shape[1], np.inf)
    came_from = np.full(costs.shape[1], -1, np.intp)
    is_done = np.zeros(costs.shape[1], np.bool_)
    visited = [start]
    row, length = start, 0.0
    while True:
        ways = length + costs[row] - row_prices[row] - column_prices
        shorter = (ways < distances) & ~is_done
        distances[shorter], came_from[shorter] = ways[shorter], row
        column = int(np.where(is_done, np.inf, distances).argmin())
        length = float(distances[column])
        if of_column[column] < 0:
            break
        is_done[column] = True
        row = int(of_column[column])
        visited.append(row)
    passed = length - distances[is_done]
    row_prices[start] += length
    row_prices[of_column[is_done]] += passed
    column_prices[is_done] -= passed
    while True:
        row = int(came_from[column])
        of_column[column], of_row[row], column = row, column, int(of_row[row])
        if row == start:
            return
