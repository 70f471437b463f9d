"""The base of every loss between a student and a teacher: settings and formula in one class.

A loss is a class in the file of its family and a line in `training/distillation/table.py`. Importing this module, the
families or the table does not load torch; see `training.distillation.lazy`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from training.config.settings import Settings
from training.distillation.lazy import loss_math, torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.data.batch import Batch
    from training.networks.student import StudentOutputs
    from training.teachers.taught import Taught

# Types of keys that several terms have.
FeaturePlace = Literal["p3", "p4", "p5", "segmentation"]  # see `training.networks.student.StudentFeatures`
PyramidLevel = Literal["p3", "p4", "p5"]
Weight = Annotated[float, Field(ge=0.0, le=1e6)]
Temperature = Annotated[float, Field(ge=0.05, le=100.0)]
GridSide = Annotated[int, Field(ge=2, le=64)]


TeacherPart = Literal["pixels", "boxes", "outputs", "nothing"]


@dataclass(frozen=True)
class Comparison:
    """What student and teachers say about one batch.

    Attributes:
        student: Outputs of the student.
        taught: What the teachers say, in the student's classes.
        batch: The frames with their labels.
        look_again: Runs the student on other images, float [N, 3, H, W], 0..1.
    """

    student: StudentOutputs
    taught: Taught
    batch: Batch
    look_again: Callable[[Tensor], StudentOutputs] | None = None

    @property
    def teacher(self) -> StudentOutputs:
        """Outputs of the teacher that is a network of ours."""
        assert self.taught.outputs is not None
        return self.taught.outputs


class DistillationTerm(Settings):
    """One term of a distillation loss: the keys of its section in a recipe, and its formula.

    Calling a term runs its formula on tensors of both networks; `compare` selects these tensors from the outputs of the
    networks. Most terms belong to a family, which implements `compare`, and add `kind`, their own keys and `compute`:

        class Hint(FeatureTerm):
            kind: Literal["hint"] = "hint"
            \"\"\"FitNets: the features themselves.\"\"\"

            def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
                return loss_math.mean((student - teacher).square())

        Hint(at="p4", weight=0.5)(student_features, teacher_features)

    Attributes:
        axes: One letter for each axis of the tensors that are compared.
        may_differ: The letters of the axes whose sizes may differ between student and teacher.
    """

    axes: ClassVar[str] = "NCHW"
    may_differ: ClassVar[str] = ""

    kind: str
    """Name of the term."""
    if TYPE_CHECKING:
        # A family declares it, after `at`: the digest of a recipe depends on the order of its keys.
        weight: float

    @abstractmethod
    def compare(self, seen: Comparison, adapter: nn.Module | None) -> Tensor:
        """Return the value of the term for a batch, before its weight.

        Args:
            seen: The outputs of both networks.
            adapter: A 1x1 convolution from the student's channels to the teacher's if `adapted_place` names a place.
        """

    @abstractmethod
    def compute(self, student: Tensor, teacher: Tensor, *context: Any, **options: Any) -> Tensor:
        """Return the value of the formula, a float32 scalar.

        Autocast is off. Both tensors are float32, have the sizes that `axes` and `may_differ` ask for, and the
        teacher's takes no gradient. Some terms get more tensors after these two.
        """

    def __call__(self, student: Any, teacher: Any, *context: Any) -> Tensor:
        """Run the formula on tensors of any float type, or on what else the term compares.

        Raises:
            ValueError: The shapes do not fit together.
        """
        # Autocast would compute matrix products, and therefore every relation, in half precision.
        with torch.autocast(_device_of(student), enabled=False):
            return self.compute(*self.prepare(student, teacher, *context))

    def prepare(self, student: Tensor, teacher: Tensor, *context: Tensor) -> tuple[Tensor, ...]:
        """Return the arguments of `compute`; see `training.distillation.loss_math.comparable`."""
        return *loss_math.comparable(student, teacher, self.axes, self.may_differ), *context

    @property
    def student_tasks(self) -> tuple[str, ...]:
        """The tasks that the student must have: the outputs and features that the term compares belong to them."""
        return ()

    @property
    def teacher_tasks(self) -> tuple[str, ...]:
        """The tasks that the teacher must have."""
        return self.student_tasks

    @property
    def teacher_part(self) -> TeacherPart:
        """What the term needs of the teachers: classes of pixels, boxes, the outputs of one of ours, or nothing."""
        return "outputs"

    @property
    def needs_own_boxes(self) -> bool:
        """Whether the teacher's detection branches must have the student's classes."""
        return False

    @property
    def adapted_place(self) -> str | None:
        """The place whose student features go through an adapter first; None for a term without an adapter."""
        return None

    def with_temperature_factor(self, factor: float) -> DistillationTerm:
        """Return the term with its key `temperature`, if it has one, multiplied by `factor`."""
        temperature = getattr(self, "temperature", None)
        return self if temperature is None else self.model_copy(update={"temperature": factor * temperature})


def _device_of(compared: Any) -> str:
    tensor = compared if hasattr(compared, "device") else compared.class_logits[0]
    return str(tensor.device.type)
