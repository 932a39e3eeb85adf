"""`fairlead.grpc`: servicers that were generated for grpcio, beside everything else on one port. See docs/guide/grpc.md."""

from __future__ import annotations

from fairlead.serve.grpcserver import Server

__all__ = ["Server"]
