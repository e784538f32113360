//! Luau scripts: one sandboxed VM a script, one thread a VM.
