//! The `ambassador` command: parse, start logs, call the library.

fn main() {}
