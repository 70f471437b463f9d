"""The label set that tests of training use where any would do."""

from training.label_sets.loading import load_label_set

CAMVID = load_label_set("camvid11")
