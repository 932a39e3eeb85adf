"""Answers: applications, proxies, fixed responses; and the table and filters before them. One file per thing that can answer."""
