"""Tests signatures of models: what is signed opens, and every way of tampering is refused with one sentence."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from tiny_student import CONTRACT, write_tiny_student

from ros_kd_perception import model_signature
from ros_kd_perception.model import signature_key
from ros_kd_perception.model.contract import CONTRACT_KEY
from ros_kd_perception.model.onnx_file import ModelFileError, read_model_file
from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
from ros_kd_perception.model.signature import check_signature, signature_path
from ros_kd_perception.model.signature_bundle import (
    MAX_SIGNATURE_BYTES,
    BundleError,
    SignatureBundle,
    signed_bytes,
    signed_sha256,
    statement_of,
)
from ros_kd_perception.model.signature_key import PrivateKey, PublicKey

# Written by the public tool for such signatures: `model_signing sign key`, version 1.1.1, of a file with this content.
REFERENCE = Path(__file__).with_name("model_signing_reference")


class Signed:
    """A signed model, with what somebody needs who tampers with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private = PrivateKey.new()
        self.key = folder / "fleet.key.pub"
        self.key.write_bytes(self.private.public.to_pem())
        self.model = self.sign(write_tiny_student(folder / "student.onnx"))
        self.signature = signature_path(self.model)

    def sign(self, model: Path, private: PrivateKey | None = None) -> Path:
        model_signature.sign(model, private or self.private, replace=True)
        return model

    def change_bundle(self, change: Callable[[dict[str, Any]], object]) -> None:
        bundle = json.loads(self.signature.read_text())
        change(bundle)
        self.signature.write_text(json.dumps(bundle))

    def change_statement(self, change: Callable[[dict[str, Any]], object], private: PrivateKey | None = None) -> None:
        """Change the statement. With a key, sign it again; without one, the old signature stays."""
        bundle = SignatureBundle.from_bytes(self.signature.read_bytes())
        statement = json.loads(bundle.payload)
        change(statement)
        payload = json.dumps(statement).encode()
        signature = private.sign(signed_bytes(payload)) if private else bundle.signature
        self.signature.write_bytes(SignatureBundle(bundle.key_hint, payload, signature).to_bytes())

    def change_metadata(self, key: str, text: str) -> None:
        model = onnx.load(self.model)
        next(entry for entry in model.metadata_props if entry.key == key).value = text
        onnx.save(model, self.model)

    def other_model(self) -> Path:
        return write_tiny_student(self.folder / "other.onnx", change_metadata={"note": "another"})


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return Signed(tmp_path)


def test_a_signed_model_opens_and_says_by_whom(signed: Signed) -> None:
    model = OnnxModel.open(signed.model, device="cpu", signature_key=str(signed.key))

    assert model.signed_by == signed.private.public.hint
    assert OnnxModel.open(signed.model, device="cpu").signed_by == ""


def write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


def flip_byte_of_model(s: Signed) -> None:
    flip(s.model, s.model.stat().st_size // 2)


def flip_last_byte_of_model(s: Signed) -> None:
    flip(s.model, -1)


def truncate_model(s: Signed) -> None:
    write(s.model, s.model.read_bytes()[:-1])


def append_to_model(s: Signed) -> None:
    # A protobuf parser takes this unknown field without a word.
    write(s.model, s.model.read_bytes() + b"\xf8\x07\x01")


def empty_model(s: Signed) -> None:
    write(s.model, b"")


def swap_model(s: Signed) -> None:
    write(s.model, s.other_model().read_bytes())


def take_signature_of_another_model(s: Signed) -> None:
    write(s.signature, signature_path(s.sign(s.other_model())).read_bytes())


def sign_with_another_key(s: Signed) -> None:
    s.sign(s.model, PrivateKey.new())


def sign_with_another_key_and_claim_the_right_one(s: Signed) -> None:
    s.sign(s.model, PrivateKey.new())
    s.change_bundle(lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint=s.private.public.hint))


def remove_signature(s: Signed) -> None:
    s.signature.unlink()


def empty_signature_file(s: Signed) -> None:
    write(s.signature, b"")


def empty_signature_in_bundle(s: Signed) -> None:
    s.change_bundle(lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig=""))


def no_signature_in_bundle(s: Signed) -> None:
    s.change_bundle(lambda bundle: bundle["dsseEnvelope"].update(signatures=[]))


def two_signatures_in_bundle(s: Signed) -> None:
    s.change_bundle(lambda bundle: bundle["dsseEnvelope"].update(signatures=bundle["dsseEnvelope"]["signatures"] * 2))


def zero_signature(s: Signed) -> None:
    # r = s = 0: some libraries once took it for a signature of anything (CVE-2022-21449).
    zero = base64.b64encode(bytes.fromhex("3006020100020100")).decode()
    s.change_bundle(lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig=zero))


def huge_signature_file(s: Signed) -> None:
    write(s.signature, s.signature.read_bytes() + b" " * MAX_SIGNATURE_BYTES)


def endless_signature_file(s: Signed) -> None:
    s.signature.unlink()
    s.signature.symlink_to("/dev/zero")


def pipe_for_signature(s: Signed) -> None:
    s.signature.unlink()
    os.mkfifo(s.signature)


def folder_for_signature(s: Signed) -> None:
    s.signature.unlink()
    s.signature.mkdir()


def raw_signature(s: Signed) -> None:
    write(s.signature, s.private.sign(s.model.read_bytes()))


def deep_json(s: Signed) -> None:
    write(s.signature, b"[" * 30_000 + b"]" * 30_000)


def json_that_is_no_object(s: Signed) -> None:
    write(s.signature, b"[1, 2]")


def not_a_number(s: Signed) -> None:
    write(s.signature, s.signature.read_bytes().replace(b'"keyid": ""', b'"keyid": NaN'))


def symlink_to_another_model(s: Signed) -> None:
    other = s.other_model()
    s.model.unlink()
    s.model.symlink_to(other)


def symlink_signature_to_another(s: Signed) -> None:
    other = signature_path(s.sign(s.other_model()))
    s.signature.unlink()
    s.signature.symlink_to(other)


def change_contract(s: Signed) -> None:
    s.change_metadata(CONTRACT_KEY, CONTRACT.to_json().replace('"unlabeled', '"car'))


def change_version_in_contract(s: Signed) -> None:
    s.change_metadata(CONTRACT_KEY, CONTRACT.to_json().replace('"version": "1"', '"version": "2"'))


def external_data(s: Signed) -> None:
    (s.folder / "weights.bin").write_bytes(bytes(1 << 16))
    model = onnx.load(s.model)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    onnx.save(model, s.model)


def name_hash_of_another_model(s: Signed) -> None:
    digest = read_model_file(s.other_model()).sha256
    write(s.model, s.other_model().read_bytes())
    s.change_statement(lambda statement: statement["predicate"]["resources"][0].update(digest=digest))


def swap_algorithm(s: Signed) -> None:
    s.change_statement(lambda st: st["predicate"]["resources"][0].update(algorithm="md5"), s.private)


def swap_hash_type(s: Signed) -> None:
    s.change_statement(lambda st: st["predicate"]["serialization"].update(hash_type="blake2b"), s.private)


def swap_method(s: Signed) -> None:
    s.change_statement(lambda st: st["predicate"]["serialization"].update(method="shards"), s.private)


def short_digest(s: Signed) -> None:
    s.change_statement(lambda st: st["predicate"]["resources"][0].update(digest="c3cc68"), s.private)


def several_files(s: Signed) -> None:
    s.change_statement(lambda st: st["predicate"].update(resources=st["predicate"]["resources"] * 2), s.private)


def contradicting_root_digest(s: Signed) -> None:
    s.change_statement(lambda st: st["subject"][0]["digest"].update(sha256="0" * 64), s.private)


def another_kind_of_statement(s: Signed) -> None:
    s.change_statement(lambda st: st.update(predicateType="https://slsa.dev/provenance/v1"), s.private)


def another_payload_type(s: Signed) -> None:
    s.change_bundle(lambda bundle: bundle["dsseEnvelope"].update(payloadType="application/json"))


def another_media_type(s: Signed) -> None:
    s.change_bundle(lambda bundle: bundle.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"))


def certificate_for_key(s: Signed) -> None:
    s.change_bundle(lambda bundle: bundle.update(verificationMaterial={"x509CertificateChain": {"certificates": []}}))


def duplicate_key_in_bundle(s: Signed) -> None:
    other = signature_path(s.sign(s.other_model())).read_text()
    both = other.rstrip("}").rstrip() + "}, " + s.signature.read_text().lstrip("{")
    write(s.signature, both.encode())


def duplicate_key_in_statement(s: Signed) -> None:
    bundle = SignatureBundle.from_bytes(s.signature.read_bytes())
    payload = bundle.payload.replace(b'"algorithm": "sha256"', b'"digest": "00", "algorithm": "sha256"')
    s.signature.write_bytes(SignatureBundle(bundle.key_hint, payload, s.private.sign(signed_bytes(payload))).to_bytes())


def newline_in_base64(s: Signed) -> None:
    s.change_bundle(lambda b: b["dsseEnvelope"].update(payload="\n" + b["dsseEnvelope"]["payload"]))


TAMPERINGS = [
    flip_byte_of_model, flip_last_byte_of_model, truncate_model, append_to_model, empty_model, swap_model,
    take_signature_of_another_model, sign_with_another_key, sign_with_another_key_and_claim_the_right_one,
    remove_signature, empty_signature_file, empty_signature_in_bundle, no_signature_in_bundle,
    two_signatures_in_bundle, zero_signature, huge_signature_file, endless_signature_file, pipe_for_signature,
    folder_for_signature, raw_signature, deep_json, json_that_is_no_object, not_a_number, symlink_to_another_model,
    symlink_signature_to_another, change_contract, change_version_in_contract, external_data,
    name_hash_of_another_model, swap_algorithm, swap_hash_type, swap_method, short_digest, several_files,
    contradicting_root_digest, another_kind_of_statement, another_payload_type, another_media_type,
    certificate_for_key, duplicate_key_in_bundle, duplicate_key_in_statement, newline_in_base64,
]  # fmt: skip


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: str(tamper.__name__))
def test_tampering_is_refused_with_one_sentence(
    signed: Signed, capsys: pytest.CaptureFixture[str], tamper: Callable[[Signed], None]
) -> None:
    tamper(signed)

    with pytest.raises(ModelError) as caught:
        OnnxModel.open(signed.model, device="cpu", signature_key=str(signed.key))
    sentence = str(caught.value)
    assert "expected" in sentence
    assert str(signed.model) in sentence
    assert "; " in sentence, "say what to do"
    assert "\n" not in sentence
    assert len(sentence) < 600 + 4 * len(str(signed.folder))
    arguments = ["verify", str(signed.model), "--key", str(signed.key)]
    assert model_signature.main(arguments) == 2
    assert capsys.readouterr().err == f"model_signature: {sentence}\n"


def test_most_of_these_models_would_run_without_a_signature(signed: Signed) -> None:
    # So the signature is what refuses them.
    for tamper in (swap_model, remove_signature, symlink_to_another_model, change_version_in_contract, append_to_model):
        write(signed.model, write_tiny_student(signed.folder / "sound.onnx").read_bytes())
        signed.sign(signed.model)
        tamper(signed)
        assert OnnxModel.open(signed.model, device="cpu").signed_by == ""


def test_a_signature_does_not_make_an_unsafe_model_safe(signed: Signed) -> None:
    external_data(signed)
    sha256 = hashlib.sha256(signed.model.read_bytes()).hexdigest()
    payload = statement_of("student.onnx", sha256)
    bundle = SignatureBundle(signed.private.public.hint, payload, signed.private.sign(signed_bytes(payload)))
    signed.signature.write_bytes(bundle.to_bytes())

    assert check_signature(signed.model, sha256, signed.key)
    with pytest.raises(ModelError, match="expected every weight inside the file"):
        OnnxModel.open(signed.model, device="cpu", signature_key=str(signed.key))
    with pytest.raises(ModelFileError, match="expected every weight inside the file"):
        model_signature.sign(signed.model, signed.private, replace=True)


def test_the_bytes_that_run_are_the_ones_that_were_verified(signed: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swap the file at each later moment: it has been read by then, and is not read again."""
    other, reads = signed.other_model().read_bytes(), []
    verify = check_signature

    def verify_and_swap(model: Path, sha256: str, key: Path) -> str:
        reads.append(sha256)
        write(signed.model, other)
        return verify(model, sha256, key)

    monkeypatch.setattr("ros_kd_perception.model.onnx_file.check_signature", verify_and_swap)
    expected = read_model_file(signed.model).sha256
    model = OnnxModel.open(signed.model, device="cpu", signature_key=str(signed.key))
    assert (model.sha256, reads) == (expected, [expected])
    assert signed.model.read_bytes() == other


def keys_of_other_kinds(folder: Path) -> Iterator[tuple[str, bytes]]:
    pem, public = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    private = ec.generate_private_key(ec.SECP256R1())
    form, lock = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    yield "a private key", private.private_bytes(pem, form, lock)
    yield "RSA", rsa.generate_private_key(65537, 2048).public_key().public_bytes(pem, public)
    yield "Ed25519", ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(pem, public)
    yield "secp256k1", ec.generate_private_key(ec.SECP256K1()).public_key().public_bytes(pem, public)
    yield "text", b"not a key"
    yield "nothing", b""
    yield "too much", b"x" * (1 << 20)


def test_other_files_are_no_public_key(signed: Signed) -> None:
    for kind, content in keys_of_other_kinds(signed.folder):
        signed.key.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"^cannot verify the signature of .*: expected .*; ") as caught:
            read_model_file(signed.model, str(signed.key))
        assert "\n" not in str(caught.value), kind
    signed.key.unlink()
    with pytest.raises(ModelFileError, match=r"expected a public key at .*No such file"):
        read_model_file(signed.model, str(signed.key))


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_keys_of_longer_curves_sign_too(signed: Signed, curve: ec.EllipticCurve) -> None:
    private = PrivateKey(ec.generate_private_key(curve))
    signed.key.write_bytes(private.public.to_pem())
    signed.sign(signed.model, private)
    assert read_model_file(signed.model, str(signed.key)).signed_by == private.public.hint


def test_signature_with_the_hash_of_another_curve_is_refused(signed: Signed) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    signed.key.write_bytes(PrivateKey(key).public.to_pem())
    payload = statement_of("student.onnx", read_model_file(signed.model).sha256)
    weak = key.sign(signed_bytes(payload), ec.ECDSA(hashes.SHA256()))
    signed.signature.write_bytes(SignatureBundle(PrivateKey(key).public.hint, payload, weak).to_bytes())
    with pytest.raises(ModelFileError, match="it was changed or is a forgery"):
        read_model_file(signed.model, str(signed.key))


def test_signatures_of_the_public_tool_are_read() -> None:
    bundle = SignatureBundle.from_bytes((REFERENCE / "model.sig").read_bytes())
    public = PublicKey.read(REFERENCE / "key.pub")
    content = (REFERENCE / "model").read_bytes()
    assert bundle.key_hint == public.hint
    assert public.fits(bundle.signature, signed_bytes(bundle.payload))
    assert signed_sha256(bundle.payload) == hashlib.sha256(content).hexdigest()


@given(st.binary(max_size=400))
def test_any_bytes_are_a_bundle_or_refused(content: bytes) -> None:
    for read in (SignatureBundle.from_bytes, signed_sha256):
        with pytest.raises(BundleError):
            read(content)


def test_keys_are_written_once_and_for_this_user_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "keys" / "fleet.key"
    assert model_signature.main(["keys", str(key)]) == 0
    assert key.stat().st_mode & 0o777 == 0o600
    assert f"wrote {key}, keep it off the vehicle, and {key}.pub" in capsys.readouterr().out
    assert model_signature.main(["keys", str(key)]) == 2
    assert "expected a free name" in capsys.readouterr().err


@pytest.mark.parametrize("cut", ["fleet.key", "fleet.key.pub"])
def test_a_full_disk_leaves_no_part_of_a_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    class FullDisk(io.FileIO):
        def write(self, content: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open_on_full_disk(file: Any, mode: str, *rest: Any) -> Any:
        name = os.readlink(f"/proc/self/fd/{file}") if isinstance(file, int) else str(file)
        return FullDisk(file, mode) if name.endswith(cut) else open(file, mode, *rest)

    key = tmp_path / "fleet.key"
    with monkeypatch.context() as full:
        full.setattr(signature_key, "open", open_on_full_disk, raising=False)
        full.setattr(Path, "open", lambda path, mode, *rest: open_on_full_disk(path, mode))
        assert model_signature.main(["keys", str(key)]) == 2
    assert "No space left" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []
    assert model_signature.main(["keys", str(key)]) == 0


def test_password_locks_the_private_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, password, wrong = tmp_path / "fleet.key", tmp_path / "password", tmp_path / "wrong"
    password.write_text("correct horse\n")
    wrong.write_text("battery\n")
    model = str(write_tiny_student(tmp_path / "student.onnx"))
    assert model_signature.main(["keys", str(key), "--password-file", str(password)]) == 0
    assert b"ENCRYPTED" in key.read_bytes()
    for options in ([], ["--password-file", str(wrong)]):
        assert model_signature.main(["sign", model, "--key", str(key), *options]) == 2
        assert "to be a private key in PEM" in capsys.readouterr().err
    assert model_signature.main(["sign", model, "--key", str(key), "--password-file", str(password)]) == 0
    assert model_signature.main(["verify", model, "--key", f"{key}.pub"]) == 0
    assert "is signed with the key" in capsys.readouterr().out
    assert model_signature.main(["sign", model, "--key", str(key), "--password-file", str(password)]) == 2
    assert "replace it with --force" in capsys.readouterr().err


def test_without_cryptography_one_sentence_says_what_to_install(signed: Signed) -> None:
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from ros_kd_perception import model_signature\n"
        "sys.exit(model_signature.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "verify", str(signed.model), "--key", str(signed.key)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert outcome.returncode == 2
    assert "expected the Python package cryptography for signatures of models, found none; install" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
