"""The commands of `xray` that need no server: thin wrappers around the library."""
