"""placeholder"""
from fairlead.run.log import access_log

__all__ = ["access_log"]
