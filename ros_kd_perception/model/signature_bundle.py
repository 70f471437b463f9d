"""Reads and writes signatures in the format of OpenSSF model signing 1.0, without any library.

A signature file is a Sigstore bundle (JSON) with a DSSE envelope. The envelope holds an in-toto statement, which names
the sha256 of the model file, and the signature of that statement. The public package `model-signing` writes and reads
the same files with `sign key` and `verify key`. Here everything is read strictly: one statement, one file, one
signature, and no JSON that two readers could understand differently.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_SIGNATURE_BYTES = 1 << 16
"""Limit on a signature file. One has less than two thousand bytes."""

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_SERIALIZATION = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []}
_WHOLE_FILE = "."
"""Name of the resource if the model is a file and not a folder."""
_SHA256 = re.compile("[0-9a-f]{64}")


class BundleError(ValueError):
    """A signature file cannot be read. The text goes on after "expected the signature"."""


@dataclass(frozen=True)
class SignatureBundle:
    """A signature file, whose signature was not checked yet.

    Attributes:
        key_hint: Hex sha256 of the public key (PEM) that the signer names.
        payload: The signed statement.
        signature: Signature of `signed_bytes(payload)`, ECDSA in DER.
    """

    key_hint: str
    payload: bytes
    signature: bytes

    @classmethod
    def from_bytes(cls, content: bytes) -> SignatureBundle:
        """Read a signature file.

        Raises:
            BundleError: It is not a bundle of one signed in-toto statement.
        """
        if not content.strip():
            raise BundleError("to be a bundle of OpenSSF model signing, it is empty")
        bundle = _json_object(content, "to be JSON")
        _require(bundle, "mediaType", MEDIA_TYPE)
        hint = _member(_member(bundle, "verificationMaterial", dict), "publicKey", dict)
        envelope = _member(bundle, "dsseEnvelope", dict)
        _require(envelope, "payloadType", PAYLOAD_TYPE)
        signatures = _member(envelope, "signatures", list)
        if len(signatures) != 1 or not isinstance(signatures[0], dict):
            raise BundleError(f"to hold one signature, it holds {len(signatures)}")
        return cls(_member(hint, "hint", str), _base64(envelope, "payload"), _base64(signatures[0], "sig"))

    def to_bytes(self) -> bytes:
        """Return the content of a signature file."""
        envelope = {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(self.signature).decode(), "keyid": ""}],
        }
        bundle = {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": self.key_hint}, "tlogEntries": []},
            "dsseEnvelope": envelope,
        }
        return json.dumps(bundle, allow_nan=False).encode()


def signed_bytes(payload: bytes) -> bytes:
    """Return the bytes that are signed for a statement: the pre-authentication encoding of DSSE."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def statement_of(name: str, sha256: str) -> bytes:
    """Return the statement that a model file has a hash.

    Args:
        name: Name of the file, for people.
        sha256: Hex digest of its bytes.
    """
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root_digest(sha256)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": _SERIALIZATION,
            "resources": [{"name": _WHOLE_FILE, "algorithm": "sha256", "digest": sha256}],
        },
    }
    return json.dumps(statement, allow_nan=False).encode()


def signed_sha256(payload: bytes) -> str:
    """Return the hex digest of the model file that a statement is about. Call it for signed statements only.

    Raises:
        BundleError: It is not a statement about the sha256 of one file.
    """
    statement = _json_object(payload, "to hold a statement in JSON")
    _require(statement, "_type", STATEMENT_TYPE)
    _require(statement, "predicateType", PREDICATE_TYPE)
    predicate = _member(statement, "predicate", dict)
    serialization = _member(predicate, "serialization", dict)
    _require(serialization, "method", "files")
    _require(serialization, "hash_type", "sha256")
    resources, subjects = _member(predicate, "resources", list), _member(statement, "subject", list)
    if len(resources) != 1 or len(subjects) != 1 or not isinstance(resources[0], dict):
        raise BundleError(f"to be of one model file, it is of {len(resources)}")
    _require(resources[0], "algorithm", "sha256")
    sha256: str = _member(resources[0], "digest", str)
    if not _SHA256.fullmatch(sha256):
        raise BundleError(f"to name a sha256 of 64 hex digits, it names {sha256[:80]!r}")
    _require(_member(subjects[0], "digest", dict), "sha256", _root_digest(sha256))
    return sha256


def _root_digest(sha256: str) -> str:
    """Return the digest over the digests of all files: here of one."""
    return hashlib.sha256(bytes.fromhex(sha256)).hexdigest()


def _json_object(content: bytes, expected: str) -> Mapping[str, Any]:
    try:
        document = json.loads(
            content.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{expected}, got: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(document, dict):
        raise BundleError(f"{expected} with an object, got {type(document).__name__}")
    return document


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key[:40]!r} twice in one object")
        values[key] = value
    return values


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text}, which is not JSON")


def _member(section: Any, key: str, kind: type) -> Any:
    value = section.get(key) if isinstance(section, dict) else None
    if not isinstance(value, kind):
        raise BundleError(f"to have {key} as a {kind.__name__}, it has {type(value).__name__}")
    return value


def _require(section: Any, key: str, expected: str) -> None:
    value = section.get(key) if isinstance(section, dict) else None
    if value != expected:
        raise BundleError(f"to have {key} {expected}, it has {str(value)[:80]!r}")


def _base64(section: Mapping[str, Any], key: str) -> bytes:
    text = _member(section, key, str)
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BundleError(f"to have {key} in base64, got: {error}") from None
    if not content:
        raise BundleError(f"to have a {key}, it is empty")
    return content
