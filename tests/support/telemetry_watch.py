"""A fresh home for child processes in which each look-up of a host name and each telemetry file is recorded.

A library that is loaded before the C library records the look-ups; gcc builds it. A machine without a network looks up
the same names.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from checkout import ROOT

from ros_kd_perception.model.onnx_runtime import TELEMETRY_VARIABLE

RECORDER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*original)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    FILE *record = fopen(getenv("LOOKUP_RECORD"), "a");
    if (record) {
        fprintf(record, "%s\n", name ? name : "");
        fclose(record);
    }
    return original(name, service, hints, found);
}
"""


# By these variables ONNX Runtime detects continuous integration, from where it sends nothing.
SILENCING = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TRAVIS", "JENKINS_URL", "CODEBUILD_BUILD_ID")
SILENCING += ("BUILDKITE", "TEAMCITY_VERSION", "APPVEYOR", "BITBUCKET_BUILD_NUMBER")


class TelemetryWatch:
    """The environment for processes, the files that they wrote in it, and the names that they looked up."""

    def __init__(self, folder: Path, environment: Mapping[str, str] = os.environ) -> None:
        self._record = folder / "lookups.txt"
        self._home, self._cache = folder / "home", folder / "cache"
        self._home.mkdir(parents=True)
        self._cache.mkdir()
        source, library = folder / "recorder.c", folder / "recorder.so"
        source.write_text(RECORDER, encoding="utf-8")
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
        inherited = {name: value for name, value in environment.items() if name not in (*SILENCING, TELEMETRY_VARIABLE)}
        self.environment = inherited | {
            "PYTHONPATH": str(ROOT),
            "HOME": str(self._home),
            "XDG_CACHE_HOME": str(self._cache),
            "LD_PRELOAD": str(library),
            "LOOKUP_RECORD": str(self._record),
        }

    def lookups(self) -> list[str]:
        """Return the host names, in the order of their look-ups."""
        return self._record.read_text(encoding="utf-8").splitlines() if self._record.exists() else []

    def files(self) -> list[Path]:
        """Return the telemetry files on disk."""
        kept = (path for folder in (self._home, self._cache) for path in folder.rglob("*"))
        return sorted(path for path in kept if "microsoft" in str(path).lower())
