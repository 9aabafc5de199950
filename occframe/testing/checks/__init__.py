"""The checks: one module a kind, ``any_component`` for all of them and ``plugin`` for what registers them."""
