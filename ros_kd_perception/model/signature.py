"""Signatures of model files, each beside its model: `student.onnx.sig` of `student.onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ros_kd_perception.model.protobuf import ModelFileError
from ros_kd_perception.model.signature_bundle import (
    MAX_SIGNATURE_BYTES,
    BundleError,
    SignatureBundle,
    signed_bytes,
    signed_sha256,
    statement_of,
)
from ros_kd_perception.system.small_file import read_small_file

if TYPE_CHECKING:
    from ros_kd_perception.model.signature_key import PrivateKey

SIGNATURE_SUFFIX = ".sig"
SHOWN_DIGITS = 12
_SIGN_AGAIN = "sign the model with `model_signature sign`, or copy both files again"


class SignatureError(ModelFileError):
    """The signature of a model is missing or does not fit. The text is one sentence that names the file."""


def signature_path(model: Path) -> Path:
    """Return where the signature of a model file is."""
    return model.with_name(f"{model.name}{SIGNATURE_SUFFIX}")


def check_signature(model: Path, sha256: str, key: Path) -> str:
    """Refuse a model file without a signature that fits.

    Args:
        model: Path of the model file, to find its signature beside it.
        sha256: Hex digest of the bytes that will be used. The file is not read again.
        key: Path of the public key.

    Returns:
        The name of the key in signatures: the hex sha256 of its file.

    Raises:
        SignatureError: There is no signature, it is not of these bytes or not by this key; or the key or the package
            that verifies it is missing.
    """
    try:
        from ros_kd_perception.model.signature_key import PublicKey

        public = PublicKey.read(key)
    except (ImportError, ValueError) as error:  # a MissingPackage or a KeyFileError, which cannot be named without it
        raise SignatureError(f"cannot verify the signature of {model}: {error}") from None
    path = signature_path(model)
    try:
        bundle = SignatureBundle.from_bytes(_read(model, path))
        hint = public.hint
        if bundle.key_hint != hint:
            raise BundleError(
                f"to be by the key {hint[:SHOWN_DIGITS]} of {key}, it is by another, {bundle.key_hint[:SHOWN_DIGITS]!r}"
            )
        if not public.fits(bundle.signature, signed_bytes(bundle.payload)):
            raise BundleError(f"to be by the key {hint[:SHOWN_DIGITS]} of {key}, it was changed or is a forgery")
        if (signed := signed_sha256(bundle.payload)) != sha256:
            raise BundleError(
                f"to be of its bytes, sha256 {sha256[:SHOWN_DIGITS]}, it is of other ones, {signed[:SHOWN_DIGITS]}"
            )
    except BundleError as error:
        raise SignatureError(f"expected the signature {path} of {model} {error}; {_SIGN_AGAIN}") from None
    return hint


def signature_of(name: str, sha256: str, key: PrivateKey) -> bytes:
    """Return the content of a signature file.

    Args:
        name: Name of the model file, for people.
        sha256: Hex digest of its bytes.
        key: The key that signs.
    """
    payload = statement_of(name, sha256)
    return SignatureBundle(key.public.hint, payload, key.sign(signed_bytes(payload))).to_bytes()


def _read(model: Path, path: Path) -> bytes:
    try:
        return read_small_file(path, MAX_SIGNATURE_BYTES)
    except FileNotFoundError:
        raise SignatureError(
            f"expected a signature of {model} in {path}, found none (a signature is required); {_SIGN_AGAIN}"
        ) from None
    except OSError as error:
        raise SignatureError(
            f"expected to read the signature {path} of {model}, got: {error.strerror}; check its permissions"
        ) from None
    except ValueError as error:
        raise BundleError(str(error)) from None
