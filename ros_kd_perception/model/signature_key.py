"""Keys that sign models: ECDSA on the curves of NIST, in PEM files. Only this module uses `cryptography`."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ros_kd_perception.system.missing_package import MissingPackage
from ros_kd_perception.system.small_file import read_small_file

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
except ModuleNotFoundError as error:
    raise MissingPackage(
        f"expected the Python package {str(error.name).partition('.')[0]} for signatures of models, found none; "
        "install the [signature] extra of ros_kd_perception, or python3-cryptography"
    ) from error

MAX_KEY_BYTES = 1 << 14
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
    "secp521r1": hashes.SHA512,
}
"""Hash of the signature, by curve."""


class KeyFileError(ValueError):
    """A key cannot be used. The text is one sentence and names the file."""


@dataclass(frozen=True)
class PublicKey:
    """A key that verifies signatures."""

    _key: ec.EllipticCurvePublicKey

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """Read a PEM file.

        Raises:
            KeyFileError: It is missing, or not a public key of such a curve.
        """
        content = _read(path, "public key")
        try:
            key = serialization.load_pem_public_key(content)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise KeyFileError(
                f"expected {path} to be a public key in PEM, it is none; name the .pub file that "
                "`model_signature keys` wrote"
            ) from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
            raise KeyFileError(_wrong_kind(path, key))
        return cls(key)

    def to_pem(self) -> bytes:
        """Return the content of its file."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_bytes(serialization.Encoding.PEM, form)

    @property
    def hint(self) -> str:
        """Hex sha256 of the file, by which signatures name their key."""
        return hashlib.sha256(self.to_pem()).hexdigest()

    def fits(self, signature: bytes, content: bytes) -> bool:
        """Return whether this is the signature of these bytes by the private key that belongs to this one."""
        try:
            self._key.verify(signature, content, ec.ECDSA(_HASHES[self._key.curve.name]()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs."""

    _key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls) -> PrivateKey:
        """Make a new key on the curve P-256."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def read(cls, path: Path, password: bytes | None = None) -> PrivateKey:
        """Read a PEM file.

        Raises:
            KeyFileError: It is missing, not a private key of such a curve, or the password does not open it.
        """
        content = _read(path, "private key")
        try:
            key = serialization.load_pem_private_key(content, password)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            what = "that this password opens" if password else "without a password"
            raise KeyFileError(
                f"expected {path} to be a private key in PEM {what}, it is none; check --key and --password-file"
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
            raise KeyFileError(_wrong_kind(path, key))
        return cls(key)

    def write(self, path: Path, password: bytes | None = None) -> None:
        """Write a new PEM file that only this user may read.

        Raises:
            OSError: It exists, or cannot be written. No part of it stays.
        """
        lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pem = self._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(pem)
        except OSError:
            path.unlink(missing_ok=True)
            raise

    @property
    def public(self) -> PublicKey:
        """The public key that belongs to it."""
        return PublicKey(self._key.public_key())

    def sign(self, content: bytes) -> bytes:
        """Return the signature of bytes, in DER."""
        return self._key.sign(content, ec.ECDSA(_HASHES[self._key.curve.name]()))


def _read(path: Path, what: str) -> bytes:
    try:
        return read_small_file(path, MAX_KEY_BYTES)
    except OSError as error:
        raise KeyFileError(f"expected a {what} at {path}, got: {error.strerror}; check the path") from None
    except ValueError as error:
        raise KeyFileError(f"expected {path} {error}; name the file of a {what}") from None


def _wrong_kind(path: Path, key: object) -> str:
    kind = type(key).__name__.strip("_")
    return (
        f"expected {path} to be a key of ECDSA on P-256, P-384 or P-521, got {kind} "
        f"{getattr(getattr(key, 'curve', None), 'name', '')}".rstrip()
        + "; make one with `model_signature keys`"
    )
