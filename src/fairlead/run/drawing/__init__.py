"""The overview diagram: a configuration read into a picture of boxes and edges, laid out in columns, and drawn.

    run/config ── reading ──> picture ── order, place ──> svg        `fairlead diagram FILE -o x.svg`
                                   └────────────────────> mermaid    `fairlead diagram FILE`

Nothing here opens anything, and nothing depends on the machine, the clock or the order of a set: the same configuration gives
the same bytes everywhere.
"""
