//! Output of the command. Data goes to standard output, everything else to standard error. A write that fails does not
//! end the command: the reader of a closed pipe has read enough, and data lost for another reason shows in the exit
//! code.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether data could not be written: a full disk, a broken device.
static DATA_IS_LOST: AtomicBool = AtomicBool::new(false);

/// Prints a line of data.
macro_rules! data {
    ($($part:tt)*) => { $crate::print::data_line(format_args!($($part)*)) };
}

/// Prints a line of everything else: a failure, its hint.
macro_rules! note {
    ($($part:tt)*) => { $crate::print::note_line(format_args!($($part)*)) };
}

pub(crate) use {data, note};

pub(crate) fn data_line(line: Arguments<'_>) {
    keep(write_line(&mut io::stdout().lock(), line));
}

pub(crate) fn note_line(line: Arguments<'_>) {
    // There is nowhere else to report this.
    let _unwritable = write_line(&mut io::stderr().lock(), line);
}

/// Remembers that data is lost, if it is.
pub(crate) fn keep(written: io::Result<()>) {
    if is_loss(&written)
        && !DATA_IS_LOST.swap(true, Ordering::Relaxed)
        && let Err(error) = written
    {
        note!("dvs: cannot write to standard output: {error}");
    }
}

/// Whether data was lost that the command printed.
pub(crate) fn data_is_lost() -> bool {
    DATA_IS_LOST.load(Ordering::Relaxed)
}

fn write_line(output: &mut impl Write, line: Arguments<'_>) -> io::Result<()> {
    writeln!(output, "{line}")?;
    output.flush()
}

fn is_loss(written: &io::Result<()>) -> bool {
    written.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_loses_data_and_a_closed_pipe_does_not() {
        let mut full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        assert!(is_loss(&write_line(&mut full, format_args!("a"))));

        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        let written = write_line(&mut writer, format_args!("a"));
        assert_eq!(written.as_ref().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(!is_loss(&written));
        assert!(!is_loss(&write_line(&mut Vec::new(), format_args!("a"))));
    }
}
