"""The example shop: two applications that `fairlead demo` serves."""
