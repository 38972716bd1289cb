"""The programs that people type; each has a `main`."""
