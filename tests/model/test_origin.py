"""Tests what a derived file says of its origin, in words."""

from __future__ import annotations

from ros_kd_perception.model.origin import Origin

DERIVED = {
    "from_name": "student.onnx",
    "from_sha256": "0a1b2c3d4e5f" + "0" * 52,
    "steps": ["pruned by channels", "quantised to 8-bit integers"],
    "parent": {"miou": 0.6742},
    "loss": {"miou": -0.0005, "ap50": 0.01},
    "frames": {"miou": "CamVid val, 101 frames"},
    "agreement": 0.9921,
}


def test_a_derived_file_says_its_parent_its_steps_and_what_it_lost() -> None:
    origin = Origin.of(DERIVED)
    assert origin.parent == "student.onnx (sha256 0a1b2c3d4e5f)"
    assert origin.steps == ("pruned by channels", "quantised to 8-bit integers")
    assert origin.losses_in_words() == (
        "miou 67.37 % (parent 67.42 %, -0.05 points, CamVid val, 101 frames); ap50 +1.00 points"
    )
    assert origin.agreement_in_words() == "99.21 % of the class map"


def test_a_file_that_says_less_has_less_to_say() -> None:
    assert Origin.of({"from_sha256": "a" * 64}).parent == f"sha256 {'a' * 12}"
    assert Origin.of({"from_name": "net.onnx"}).parent == "net.onnx"
    plain = Origin.of({})
    assert (plain.parent, plain.steps, plain.losses_in_words(), plain.agreement_in_words()) == ("", (), "", "")
