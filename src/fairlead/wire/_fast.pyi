# For type checkers: the leaves are what their plain twins are.
from fairlead.wire._plain import *  # noqa: F403
