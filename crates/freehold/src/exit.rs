//! Exit codes, and how an error is told to a person.

use std::process::ExitCode;

use crate::output;

/// Everything worked.
pub const OK: u8 = 0;
/// Something failed; the error says what. (2 is the command line's own: wrong words.)
pub const FAILED: u8 = 1;
/// The function ran and answered with an error.
pub const FUNCTION_ERROR: u8 = 3;

/// Prints an error with its causes to stderr.
pub fn explain(error: &anyhow::Error) -> ExitCode {
    if output::is_reader_gone(error) {
        return ExitCode::from(OK);
    }
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
    ExitCode::from(FAILED)
}
