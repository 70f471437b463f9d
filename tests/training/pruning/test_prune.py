"""Pruning: what is left computes the same as what torch-pruning leaves, and is small or fast enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from label_sets import CAMVID
from used_networks import everything, used

from training.config.sections import QuantizationAwareRecipe
from training.data.readers.registry import source_of
from training.errors import CheckpointError, DataError, RecipeError
from training.export.export import export_student
from training.export.network_inputs import render_network_inputs
from training.export.settings import ExportSettings
from training.label_sets.label_set import LabelSet
from training.networks.backbone import FeatureBackbone
from training.networks.channels import channels_of, layers_of
from training.networks.efficientnet_lite import EfficientNetLite0
from training.networks.quantization_aware import quantization_aware
from training.networks.selected_backbone import rebuild_backbone
from training.networks.squeezenet import SqueezeNet
from training.networks.student import Student, build_student
from training.pruning import prune
from training.pruning.cutting import cut_student
from training.pruning.groups import FusedCopy
from training.pruning.importance import BATCH_SIZE, magnitudes, read_batches, taylor
from training.pruning.ladder import Ladder
from training.pruning.latency import LatencyMeter, LatencyShare
from training.pruning.prune import prune_student
from training.pruning.settings import PruneSettings

HEIGHT, WIDTH = 64, 96
BACKBONES: dict[str, Callable[[], FeatureBackbone] | None] = {
    "our own": None,
    "efficientnet_lite0": EfficientNetLite0,
    "squeezenet": SqueezeNet,
}


def trained(backbone: str = "our own", tasks: tuple[int, int] = (11, 4)) -> Student:
    """Build a network with random normalisation and scales, as after training."""
    torch.manual_seed(1)
    make = BACKBONES[backbone]
    return used(build_student("n", *tasks, backbone=make() if make else None)).eval()


@torch.no_grad()
def assert_same(one: Student, other: Student) -> None:
    images = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    outputs = [everything(network(images, with_one_to_many=True)) for network in (one, other)]
    for value, wanted in zip(*outputs, strict=True):
        assert torch.allclose(value, wanted, atol=1e-4 * max(1.0, float(wanted.abs().max())))


@pytest.fixture(scope="module")
def student() -> Student:
    return trained()


@pytest.mark.parametrize("backbone", BACKBONES)
@settings(max_examples=3, deadline=None)
@given(share=st.floats(0.0, 1.0), seed=st.integers(0, 2**16))
def test_any_cut_computes_what_torch_pruning_leaves(backbone: str, share: float, seed: int) -> None:
    parent = trained(backbone)
    reference = FusedCopy(parent)
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for group in reference.groups:
        stays = torch.rand(group.channels, generator=generator) < share
        stays[int(torch.randint(group.channels, (), generator=generator))] = True  # a layer keeps one at least
        kept[group.name] = stays
    cut = cut_student(parent, reference.groups, kept)
    for group in reference.groups:
        if not kept[group.name].all():
            group.torch_group.prune((~kept[group.name]).nonzero().flatten().tolist())
    assert_same(cut, reference.network)
    for name, layer in layers_of(cut):
        convolution = reference.convolution(name)
        assert channels_of(cut)[name] == [convolution.out_channels, convolution.in_channels]
        assert type(layer) is type(parent.get_submodule(name))


@pytest.mark.parametrize("tasks", [(11, 0), (0, 4)])
def test_a_student_of_one_task_is_cut_too(tasks: tuple[int, int]) -> None:
    parent = trained(tasks=tasks)
    names = {"segmentation": CAMVID.segmentation, "detection": CAMVID.detection}
    task = "segmentation" if tasks[0] else "detection"
    entries = [{"id": entry.id, "name": entry.name} for entry in names[task]]
    classes = LabelSet.checked({"name": task, task: entries})
    pruned = prune_student(parent, classes, PruneSettings(share=0.5), HEIGHT, WIDTH)
    assert pruned.student.tasks == parent.tasks
    assert 0.4 < pruned.macs_share <= 0.5


def test_the_training_branch_keeps_its_own_channels_and_predictors_keep_their_outputs(student: Student) -> None:
    pruned = prune_student(student, CAMVID, PruneSettings(share=0.3), HEIGHT, WIDTH).student
    before, after = channels_of(student), channels_of(pruned)
    for name in before:
        if name.startswith("detection_one_to_many") or (name.endswith((".1", "classifier")) and "layers" in name):
            assert after[name][0] == before[name][0], name
    assert before["backbone.stages.0.0"][1] == after["backbone.stages.0.0"][1] == 3


@pytest.mark.parametrize("share", [0.9, 0.6, 0.25])
def test_macs_are_at_most_the_share_and_close_to_it(share: float, student: Student) -> None:
    chosen = PruneSettings(share=share, round_to=2)
    pruned = prune_student(student, CAMVID, chosen, HEIGHT, WIDTH)
    assert share - 0.03 < pruned.macs_share <= share
    assert pruned.after.parameters < pruned.before.parameters
    for layer in pruned.layers:
        for before, after in zip(layer.before, layer.after, strict=True):
            assert after == before or after % 2 == 0
            assert after >= min(before, 8)
            assert after >= 0.25 * before


def test_the_same_network_is_always_cut_in_the_same_way(student: Student) -> None:
    again = [prune_student(student, CAMVID, PruneSettings(share=0.5), HEIGHT, WIDTH).student for _ in range(2)]
    for name, value in again[0].state_dict().items():
        assert torch.equal(value, again[1].state_dict()[name])


def test_the_channels_that_go_first_are_the_least_important(student: Student) -> None:
    fused = FusedCopy(student)
    with torch.no_grad():
        fused.convolution("backbone.stages.2.0").weight[:16] *= 0.1
        fused.convolution("backbone.stages.2.1").weight[:, :16] *= 0.1
    ladder = Ladder.of(fused.groups, magnitudes(fused), PruneSettings())
    masks = [ladder.kept(step)["backbone.stages.2.0"] for step in range(len(ladder))]
    assert not [mask for mask in masks if mask[16:].all()][-1][:16].any()


def test_each_shape_of_the_ladder_has_a_part_of_the_one_before(student: Student) -> None:
    fused = FusedCopy(student)
    ladder = Ladder.of(fused.groups, magnitudes(fused), PruneSettings(round_to=4))
    assert all(mask.all() for mask in ladder.kept(0).values())
    for step in range(1, len(ladder), 7):
        before, after = ladder.kept(step - 1), ladder.kept(step)
        assert all((after[name] <= before[name]).all() for name in after)
        assert any((after[name] != before[name]).any() for name in after)


def test_taylor_ranks_by_the_gradients_of_the_labels(student: Student, rendered_samples: Path) -> None:
    source = source_of("rendered", {"folder": str(rendered_samples)})
    batches = read_batches(source, CAMVID, 1, HEIGHT, WIDTH)
    assert [tuple(batch.images.shape) for batch in batches] == [(BATCH_SIZE, 3, HEIGHT, WIDTH)]
    fused = FusedCopy(student)
    by_gradient, by_size = taylor(fused, batches), magnitudes(fused)
    assert all((values >= 0).all() for values in by_gradient)
    assert any(not torch.equal(one.argsort(), other.argsort()) for one, other in zip(by_gradient, by_size, strict=True))
    chosen = PruneSettings(importance="taylor", frames=source, batches=1, share=0.5)
    assert 0.4 < prune_student(student, CAMVID, chosen, HEIGHT, WIDTH).macs_share <= 0.5


def test_frames_without_labels_of_the_classes_are_refused(student: Student, rendered_samples: Path) -> None:
    (batch,) = read_batches(source_of("rendered", {"folder": str(rendered_samples)}), CAMVID, 1, HEIGHT, WIDTH)
    batch.masks.fill_(255)
    batch.has_boxes.fill_(False)
    with pytest.raises(DataError, match="expected labels of the student's classes"):
        taylor(FusedCopy(student), [batch])


@pytest.mark.parametrize("backbone", ["our own", "efficientnet_lite0"])
def test_the_export_of_a_pruned_student_agrees_with_it(backbone: str, tmp_path: Path) -> None:
    pruned = prune_student(trained(backbone), CAMVID, PruneSettings(share=0.4), HEIGHT, WIDTH).student
    frames = render_network_inputs(HEIGHT, WIDTH)
    report = export_student(pruned, tmp_path / "s.onnx", ExportSettings(CAMVID, height=HEIGHT, width=WIDTH), frames)
    assert not report.failures()
    assert report.frames == len(frames)


def test_what_cannot_be_reached_is_said_with_the_nearest(student: Student) -> None:
    with pytest.raises(RecipeError, match=r"get down to 0.05 .* set share to (0\.\d\d) or more") as refused:
        prune_student(student, CAMVID, PruneSettings(share=0.05, largest_cut=0.5), HEIGHT, WIDTH)
    nearest = float(str(refused.value).split("set share to ")[1].split()[0])
    chosen = PruneSettings(share=nearest, largest_cut=0.5)
    assert nearest - 0.01 <= prune_student(student, CAMVID, chosen, HEIGHT, WIDTH).macs_share <= nearest
    with pytest.raises(RecipeError, match=r"1\.000 is left .* allow; raise largest_cut"):
        prune_student(student, CAMVID, PruneSettings(least_channels=4096), HEIGHT, WIDTH)


def test_weights_that_cannot_be_ranked_are_refused(student: Student) -> None:
    broken = trained()
    with torch.no_grad():
        next(broken.parameters())[0] = float("nan")
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        prune_student(broken, CAMVID, PruneSettings(), HEIGHT, WIDTH)
    with pytest.raises(RecipeError, match="multiples of 32 px, got 60x96"):
        prune_student(student, CAMVID, PruneSettings(), 60, WIDTH)


def test_a_backbone_of_transformers_is_refused() -> None:
    tiny = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 24]}
    backbone = rebuild_backbone({"model_type": "convnextv2", **tiny})
    with pytest.raises(CheckpointError, match="on convnextv2; only distil or quantise"):
        prune_student(build_student("n", 11, 4, backbone), CAMVID, PruneSettings(), HEIGHT, WIDTH)


def test_a_student_that_rounds_is_refused() -> None:
    rounding = quantization_aware(trained(), QuantizationAwareRecipe())
    with pytest.raises(CheckpointError, match="rounded to 8 bits; prune the weights that its training started from"):
        prune_student(rounding, CAMVID, PruneSettings(), HEIGHT, WIDTH)


def test_the_interval_of_a_ratio_holds_the_median_and_shrinks_with_more_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(205, generator=generator).tolist()
    few, many = (LatencyShare.of([(1.0, 0.6 + 0.1 * value) for value in noise[:count]]) for count in (41, 205))
    assert abs(many.share - 0.65) < many.uncertainty < few.uncertainty
    assert few.milliseconds == pytest.approx(1e3 * few.share)
    slow = [(value, 0.5 * value) for value in (1.0, 9.0, 2.0, 1.0, 30.0)]  # another program ran in some pairs
    assert LatencyShare.of(slow) == LatencyShare(0.5, 0.0, 1000.0, 2000.0)


@pytest.mark.slow  # two exports, and runs of both files
@pytest.mark.alone
def test_a_smaller_student_is_measured_as_faster(student: Student) -> None:
    meter = LatencyMeter(student, ExportSettings(CAMVID, height=256, width=256), threads=1)
    smaller = prune_student(student, CAMVID, PruneSettings(share=0.15), HEIGHT, WIDTH).student
    assert meter.share_of(smaller, 1.0).share < 0.9


def test_latency_is_searched_by_what_was_measured(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is replaced, because no machine of the tests is quiet enough: latency is 10 ms + MACs / 1e10."""

    class Measured(LatencyMeter):
        def resolution(self) -> float:
            return 0.05

        def share_of(self, student: Student, target: float) -> LatencyShare:
            macs = prune._macs(prune._size(student, HEIGHT, WIDTH))
            return LatencyShare.of([(0.010 + full / 1e10, 0.010 + macs / 1e10)])

    full = prune._macs(prune._size(student, HEIGHT, WIDTH))
    monkeypatch.setattr(prune, "LatencyMeter", Measured)
    whole = 0.010 + full / 1e10
    wanted = (0.010 + 0.5 * full / 1e10) / whole  # half of the MACs
    pruned = prune_student(student, CAMVID, PruneSettings(target="latency", share=wanted), HEIGHT, WIDTH)
    assert pruned.latency is not None
    assert wanted - prune.LATENCY_CLOSE < pruned.latency.share <= wanted
    with pytest.raises(RecipeError, match=r"differ by up to 5%; set share to 0\.95 or less"):
        prune_student(student, CAMVID, PruneSettings(target="latency", share=0.97), HEIGHT, WIDTH)
