"""Reference profiles: frozen distributions of features with which reports compare."""
