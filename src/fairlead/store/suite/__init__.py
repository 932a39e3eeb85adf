"""The contract as checks that any engine can be put to: `fairlead verify --store URL`, and the project's own tests.

- `kit`       what a check gets, and its words
- `logs`      topics · `queues` leases · `keys` state: the contract, sentence by sentence
- `model`     random walks, compared with the memory engine
- `history`   judges what clients saw while something broke
- `load`      makes such histories · `faults` breaks things
- `run`       all of it on one URL

`CHECKS` lists every check: (name, what it needs, function).
"""

from . import keys, logs, queues
from .kit import CHECKS, Bench, Failed

__all__ = ["CHECKS", "Bench", "Failed", "keys", "logs", "queues"]
