"""Clients of our own gRPC services, as protoc and grpcio make them from our .proto files, at test time."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from fairlead import services


def generated(folder: Path):
    """(topics, topics' stubs, jobs, jobs' stubs): modules generated into `folder`."""
    import grpc_tools
    from grpc_tools import protoc

    ours, standard = str(services.protos()), str(Path(grpc_tools.__file__).parent / "_proto")
    # another package than ours: `fairlead.v1` would be looked for in the installed fairlead
    for name in ("topics", "jobs"):
        text = (Path(ours) / "fairlead" / "v1" / f"{name}.proto").read_text()
        (folder / f"fairlead_{name}.proto").write_text(text)
    files = ["fairlead_topics.proto", "fairlead_jobs.proto"]
    done = protoc.main(["", f"-I{folder}", f"-I{standard}", f"--python_out={folder}", f"--grpc_python_out={folder}", *files])
    assert done == 0
    sys.path.insert(0, str(folder))
    try:
        names = [f"fairlead_{name}_{kind}" for name in ("topics", "jobs") for kind in ("pb2", "pb2_grpc")]
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(folder))
