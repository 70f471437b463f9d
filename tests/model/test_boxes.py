import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.model.boxes import best_of_each_object, iou_xyxy, match_by_iou


def one_after_the_other(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, limit: float) -> list[int]:
    """Non-maximum suppression by its definition, one pair at a time."""
    kept: list[int] = []
    for row in sorted(range(len(scores)), key=lambda row: -scores[row]):
        overlaps = [iou_xyxy(boxes[row : row + 1], boxes[k : k + 1]).item() for k in kept if labels[k] == labels[row]]
        if all(overlap <= limit for overlap in overlaps):
            kept.append(row)
    return kept


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 6), st.integers(0, 6), st.integers(0, 1)),
        max_size=30,
    ),
    limit=st.sampled_from([0.0, 0.31, 0.45, 0.7, 1.0]),  # no IoU of these small boxes lies next to one of them
    seed=st.integers(0, 99),
)
def test_the_best_box_of_each_object_is_kept_in_the_order_of_scores(rows, limit, seed):
    values = np.array(rows, np.float32).reshape(-1, 5)
    boxes = np.concatenate([values[:, :2], values[:, :2] + values[:, 2:4]], axis=1)
    labels = values[:, 4].astype(np.int32)
    scores = np.random.default_rng(seed).integers(0, 8, len(rows)).astype(np.float32)  # with equal ones

    kept = best_of_each_object(boxes, scores, labels, limit)

    assert kept.tolist() == one_after_the_other(boxes, scores, labels, limit)


def test_a_thousand_boxes_give_what_the_definition_gives():
    random = np.random.default_rng(5)
    corners = random.uniform(0, 200, (1000, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, 60, (1000, 2))], axis=1).astype(np.float32)
    scores, labels = random.random(1000).astype(np.float32), random.integers(0, 3, 1000).astype(np.int32)

    kept = best_of_each_object(boxes, scores, labels, 0.5)

    assert kept.tolist() == one_after_the_other(boxes, scores, labels, 0.5)
    assert 100 < len(kept) < 900


@given(
    table=st.integers(0, 5).flatmap(
        lambda columns: st.lists(
            st.lists(st.sampled_from([0.0, 0.4, 0.5, 0.7, 1.0]), min_size=columns, max_size=columns), max_size=5
        ).map(lambda rows: np.array(rows, np.float32).reshape(len(rows), columns))
    )
)
def test_pairs_are_the_best_free_ones_and_those_of_the_transposed_table(table):
    pairs = match_by_iou(table, 0.5)
    assert sorted(pairs) == sorted((row, column) for column, row in match_by_iou(table.T, 0.5))
    ious = [float(table[pair]) for pair in pairs]
    assert ious == sorted(ious, reverse=True)
    free = table.copy()
    for pair, iou in zip(pairs, ious, strict=True):
        assert iou == free.max() >= 0.5
        free[pair[0], :] = free[:, pair[1]] = 0
    assert not (free >= 0.5).any()
