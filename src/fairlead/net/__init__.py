"""Sockets: the only place that touches them for HTTP, TCP and UDP."""
