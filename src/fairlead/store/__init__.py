"""What lasts: three small interfaces, one file per engine. See `contract`."""
