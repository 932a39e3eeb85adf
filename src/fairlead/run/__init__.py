"""The process: command line, configuration, plan, master and workers, and what is seen of them."""
