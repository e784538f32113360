//! The binary; everything is in the library.

use std::process::ExitCode;

/// An event is read on one thread and let go of on another: glibc's makes them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    masterchief::cli::main()
}
