"""A torch student that the vehicle's Perceiver can run, so that evaluation uses the code of the vehicle."""

from __future__ import annotations

import torch

from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.model.network_outputs import FIELD_OF_OUTPUT, NetworkOutputs
from ros_kd_perception.structures import UInt8Array
from training.export.deployed_student import deployed_student
from training.export.settings import ExportSettings
from training.networks.student import Student


class TorchModel:
    """Takes the place of an OnnxModel: the same contract and outputs, run by torch on the student's device."""

    contract: ModelContract
    max_batch = 1

    def __init__(self, student: Student, settings: ExportSettings) -> None:
        self.contract = settings.contract()
        self.device = next(student.parameters()).device
        deployed = deployed_student(student, settings)
        self.deployed = deployed.eval().to(self.device)  # its constants are created on the CPU

    @torch.inference_mode()
    def run(self, images: UInt8Array) -> NetworkOutputs:
        """Run the network on network inputs, uint8 [N, H, W, 3]."""
        # Lightning validates in the training precision, but the exported file runs in float32.
        with torch.autocast(self.device.type, enabled=False):
            outputs = self.deployed(torch.from_numpy(images).to(self.device))
        found = zip(self.deployed.output_names, outputs, strict=True)
        return NetworkOutputs(**{FIELD_OF_OUTPUT[name]: output.cpu().numpy() for name, output in found})
