"""Make keys, sign models and verify them, without ROS and a network: `model_signature sign MODEL.onnx --key KEY`.

The signatures have the format of OpenSSF model signing, so its own tool reads and writes them, too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ros_kd_perception.model.contract_file import ContractFile
from ros_kd_perception.model.signature import SHOWN_DIGITS, signature_of, signature_path
from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.missing_package import MissingPackage
from ros_kd_perception.system.output_paths import check_free, make_folder
from ros_kd_perception.system.small_file import read_small_file
from ros_kd_perception.system.standard_output import escape_unknown_characters

if TYPE_CHECKING:
    from ros_kd_perception.model.signature_key import PrivateKey

EXIT_UNUSABLE = 2
PUBLIC_SUFFIX = ".pub"
MAX_PASSWORD_BYTES = 1 << 10


def make_keys(path: Path, password: bytes | None = None) -> str:
    """Write a new private key, and its public key beside it with the suffix `.pub`.

    Args:
        path: File of the private key. Only this user may read it.
        password: Encrypts the private key; None for no encryption.

    Returns:
        The name of the key in signatures: the hex sha256 of the public key's file.

    Raises:
        OutputPathError, OSError: One of the files exists, or cannot be written. Neither of them stays then.
    """
    from ros_kd_perception.model.signature_key import PrivateKey

    public = path.with_name(f"{path.name}{PUBLIC_SUFFIX}")
    for file in (path, public):
        check_free(file, replace=False)
    make_folder(path.parent)
    key = PrivateKey.new()
    key.write(path, password)
    try:
        public.write_bytes(key.public.to_pem())
    except OSError:
        for file in (path, public):  # a key without the other one is of no use, and would keep its name
            file.unlink(missing_ok=True)
        raise
    return key.public.hint


def sign(model: Path, key: PrivateKey, *, replace: bool = False) -> Path:
    """Write the signature of a model beside it. The model is checked first, as before it runs.

    Args:
        model: The `.onnx` file.
        key: The key that signs.
        replace: Whether an existing signature may be replaced.

    Returns:
        Path of the signature.

    Raises:
        ModelFileError, ContractError: The model cannot be used; one sentence.
        OutputPathError, OSError: The signature exists, or cannot be written.
    """
    path = signature_path(model)
    check_free(path, replace=replace)
    content = signature_of(model.name, ContractFile.read(model).file.sha256, key)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="model_signature", description="Make keys, sign models and verify them, without a network."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="keys|sign|verify")
    keys = commands.add_parser("keys", help="write a new private key and its public key")
    keys.add_argument(
        "key", type=path_argument, metavar="KEY", help=f"private key to write; KEY{PUBLIC_SUFFIX} is the public one"
    )
    signing = commands.add_parser(sign.__name__, help="write the signature of each model beside it, as MODEL.onnx.sig")
    signing.add_argument(
        "models", type=path_argument, nargs="+", metavar="MODEL.onnx", help="exported or adopted model"
    )
    signing.add_argument("--key", type=path_argument, required=True, metavar="KEY", help="private key that signs")
    signing.add_argument("--force", action="store_true", help="replace existing signatures")
    for command in (keys, signing):
        command.add_argument(
            "--password-file", type=path_argument, metavar="FILE", help="its first line locks the private key"
        )
    verifying = commands.add_parser("verify", help="check models as a node with require_signature does")
    verifying.add_argument(
        "models", type=path_argument, nargs="+", metavar="MODEL.onnx", help="model with its signature beside it"
    )
    verifying.add_argument(
        "--key", type=path_argument, required=True, metavar="KEY.pub", help="public key that must have signed"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the three. Return 0; 2 with one sentence if a model, key or signature cannot be used."""
    options = parse_arguments(arguments)
    escape_unknown_characters()
    try:
        _run(options)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, MissingPackage) as error:
        print(f"model_signature: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.command == "verify":
        for model in options.models:
            file = ContractFile.read(model, str(options.key)).file
            print(
                f"{model}: sha256 {file.sha256[:SHOWN_DIGITS]} is signed with the key {file.signed_by[:SHOWN_DIGITS]}"
            )
        return
    password = _password(options.password_file)
    if options.command == "keys":
        hint = make_keys(options.key, password)
        print(
            f"wrote {options.key}, keep it off the vehicle, and {options.key}{PUBLIC_SUFFIX}, key {hint[:SHOWN_DIGITS]}"
        )
        return
    from ros_kd_perception.model.signature_key import PrivateKey

    key = PrivateKey.read(options.key, password)
    for model in options.models:
        print(f"wrote {sign(model, key, replace=options.force)}")


def _password(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        lines = read_small_file(path, MAX_PASSWORD_BYTES).splitlines()
    except ValueError as error:
        raise ValueError(f"expected {path} {error}; write the password into its first line") from None
    if not lines or not lines[0]:
        raise ValueError(f"expected a password in the first line of {path}, found none")
    return lines[0]


if __name__ == "__main__":
    sys.exit(main())
