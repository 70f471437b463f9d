"""Makes the bill of materials in the format of CycloneDX. The same checkout and packages give the same bytes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from ros_kd_perception.model.contract import ContractError
from ros_kd_perception.model.contract_file import ContractFile
from training.bill_of_materials.packages import PACKAGE, InstalledPackage
from training.errors import DataError

PREFIX = "ros_kd_perception"
"""Namespace of the properties of models."""
SERIAL_NAMESPACE = uuid.UUID("6d5c7a5e-2a0f-4a0e-9e0f-2d9a1d0c7b11")
PROVENANCE = ("use", "label_set", "recipe_sha256", "data_sha256", "teachers", "git_commit", "created")
"""Texts of a contract's provenance that the bill repeats."""


def bill_of(packages: Mapping[str, InstalledPackage], models: Sequence[Path]) -> str:
    """Return the bill of the package, of the packages that it needs and of some models, as JSON.

    Args:
        packages: From `installed_packages`; the first is this package.
        models: Exported or adopted `.onnx` files.

    Raises:
        ModelFileError, DataError: A model cannot be read; one sentence that names it.
    """
    components = {name: _package(package) for name, package in packages.items()}
    own = components[next(iter(packages))]
    bom = Bom(components=list(components.values())[1:])
    bom.metadata.component = own
    for name, package in packages.items():
        bom.register_dependency(components[name], [components[need] for need in package.needs])
    data: dict[tuple[str, str], Component] = {}
    files = []
    for path in models:
        model, learnt_from = _model(path, data)
        files.append(model)
        bom.components.add(model)
        bom.components.update(learnt_from)
        bom.register_dependency(model, learnt_from)
    bom.register_dependency(own, [*(components[need] for need in packages[str(own.bom_ref.value)].needs), *files])
    return _text(bom)


def validated(text: str) -> str:
    """Return a bill unchanged.

    Raises:
        DataError: It does not follow the schema of CycloneDX.
    """
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        raise DataError(f"expected the bill to follow the schema of CycloneDX 1.6, got: {str(problem).splitlines()[0]}")
    return text


def _package(package: InstalledPackage) -> Component:
    licences = [DisjunctiveLicense(name=package.licence)] if package.licence else []
    own = package.name.replace("-", "_") == PACKAGE
    return Component(
        name=PACKAGE if own else package.name,
        version=package.version,
        type=ComponentType.APPLICATION if own else ComponentType.LIBRARY,
        bom_ref=package.name,
        purl=PackageURL("generic" if own else "pypi", None, package.name, package.version),
        licenses=licences,
    )


def _model(path: Path, data: dict[tuple[str, str], Component]) -> tuple[Component, list[Component]]:
    """Return the component of a model and those that its weights learnt from; `data` has those of other models."""
    try:
        file = ContractFile.read(path)
    except ContractError as error:
        raise DataError(str(error)) from None
    contract, provenance = file.contract, file.contract.provenance
    learnt_from = []
    licences = provenance.get("licences", {})
    for source, licence in sorted(licences.items()) if isinstance(licences, Mapping) else ():
        key = (str(source), str(licence))
        if key not in data:
            data[key] = Component(
                name=key[0], type=ComponentType.DATA, bom_ref=f"data {key[0]} ({key[1]})",
                licenses=[DisjunctiveLicense(name=key[1])],
            )  # fmt: skip
        learnt_from.append(data[key])
    texts = {key: str(provenance[key]) for key in PROVENANCE if key in provenance}
    texts["precision"] = contract.precision
    texts["licences"] = json.dumps(licences, sort_keys=True, allow_nan=False)
    use = texts.get("use", "not stated")
    model = Component(
        name=path.name,
        version=contract.version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model {path.name}",
        description=f"{contract.name} {contract.version} in {contract.precision}: {' and '.join(contract.tasks)}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=file.file.sha256)],
        licenses=[DisjunctiveLicense(name=use)],
        properties=[Property(name=f"{PREFIX}:{key}", value=text) for key, text in sorted(texts.items())],
        pedigree=_pedigree(contract.derived),
    )
    return model, learnt_from


def _pedigree(derived: Mapping[str, object]) -> Pedigree | None:
    """Return the file that a pruned, quantised or adopted one was made from, and how."""
    name, sha256, steps = derived.get("from_name", ""), derived.get("from_sha256", ""), derived.get("steps", ())
    if not name and not sha256:
        return None
    parent = Component(
        name=str(name or "unnamed"),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"parent {sha256 or name}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=str(sha256))] if sha256 else [],
    )
    return Pedigree(ancestors=[parent], notes="; ".join(map(str, steps)) if isinstance(steps, list | tuple) else "")


def _text(bom: Bom) -> str:
    """Return the bill without its time, and with a serial number that follows from its content."""
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    document["metadata"].pop("timestamp", None)
    document.pop("serialNumber", None)
    content = json.dumps(document, sort_keys=True, allow_nan=False)
    document["serialNumber"] = uuid.uuid5(SERIAL_NAMESPACE, content).urn
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
