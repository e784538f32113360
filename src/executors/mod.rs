//! Doing things outside on a handler's behalf: HTTP calls and commands, within declared limits.
