"""The store of a test that runs on every engine: memory where it stands, others in `store/test_jobs_on_engines`."""

from fairlead.store.open import open_store

here = ["memory:"]  # the URL of a store that is empty, at the end


async def open_here():
    """The store, opened."""
    return await open_store(here[-1])
