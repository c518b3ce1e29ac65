//! The layout of every reply in use. The client library allocates whatever length a reply announces before it checks
//! how much has arrived. So each reply is walked first, and only one in which every length fits is passed on.

/// One part of a reply.
enum Part {
    /// So many bytes, a multiple of four.
    Bytes(usize),
    /// A length up to this bound, then so many bytes, padded to a multiple of four.
    Opaque(usize),
    /// A count up to this bound, then so many words.
    Numbers(usize),
    /// A flag, then these parts if it is set.
    Optional(&'static [Part]),
    /// A flag and these parts, repeated until the flag is not set.
    List(&'static [Part]),
}

use Part::{Bytes, List, Numbers, Opaque, Optional};

const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;
const PORTMAP: u32 = 100_000;

/// RFC 1813: the maximum length of a handle.
const HANDLE: Part = Opaque(64);
/// RFC 1813 sets no limit for names; no file system has longer ones.
const NAME: Part = Opaque(1024);
const PATH: Part = Opaque(4096);
const ATTRIBUTES: Part = Bytes(84);
const OPTIONAL_ATTRIBUTES: Part = Optional(&[ATTRIBUTES]);
const OPTIONAL_HANDLE: Part = Optional(&[HANDLE]);
/// `wcc_data`: attributes before and after.
const CHANGE: [Part; 2] = [Optional(&[Bytes(24)]), OPTIONAL_ATTRIBUTES];
const MADE: &[Part] = &[OPTIONAL_HANDLE, OPTIONAL_ATTRIBUTES, Optional(&[Bytes(24)]), OPTIONAL_ATTRIBUTES];
const RENAMED: &[Part] =
    &[Optional(&[Bytes(24)]), OPTIONAL_ATTRIBUTES, Optional(&[Bytes(24)]), OPTIONAL_ATTRIBUTES];
const WRITTEN: &[Part] = &[Optional(&[Bytes(24)]), OPTIONAL_ATTRIBUTES, Bytes(16)];
const LISTED: &[Part] = &[OPTIONAL_ATTRIBUTES, Bytes(8), List(&[Bytes(8), NAME, Bytes(8)]), Bytes(4)];
const LISTED_PLUS: &[Part] = &[
    OPTIONAL_ATTRIBUTES,
    Bytes(8),
    List(&[Bytes(8), NAME, Bytes(8), OPTIONAL_ATTRIBUTES, OPTIONAL_HANDLE]),
    Bytes(4),
];

type Parts = &'static [Part];

/// What follows the status in the reply of a procedure, if it succeeds and if it fails.
fn shape(program: u32, procedure: u32) -> Option<(Parts, Parts)> {
    let shape = |good: Parts, bad: Parts| Some((good, bad));
    match (program, procedure) {
        (NFS, 1) => shape(&[ATTRIBUTES], &[]),
        (NFS, 2 | 12 | 13) => shape(&CHANGE, &CHANGE),
        (NFS, 3) => shape(&[HANDLE, OPTIONAL_ATTRIBUTES, OPTIONAL_ATTRIBUTES], &[OPTIONAL_ATTRIBUTES]),
        (NFS, 5) => shape(&[OPTIONAL_ATTRIBUTES, PATH], &[OPTIONAL_ATTRIBUTES]),
        (NFS, 6) => shape(&[OPTIONAL_ATTRIBUTES, Bytes(8), Opaque(REPLY_BYTES_MAX)], &[OPTIONAL_ATTRIBUTES]),
        (NFS, 7) => shape(WRITTEN, &CHANGE),
        (NFS, 8..=10) => shape(MADE, &CHANGE),
        (NFS, 14) => shape(RENAMED, RENAMED),
        (NFS, 16) => shape(LISTED, &[OPTIONAL_ATTRIBUTES]),
        (NFS, 17) => shape(LISTED_PLUS, &[OPTIONAL_ATTRIBUTES]),
        (NFS, 18) => shape(&[OPTIONAL_ATTRIBUTES, Bytes(52)], &[OPTIONAL_ATTRIBUTES]),
        (MOUNT, 1) => shape(&[HANDLE, Numbers(64)], &[]),
        _ => None,
    }
}

/// The largest accepted reply: several times of what is ever asked for.
pub(crate) const REPLY_BYTES_MAX: usize = 256 * 1024;
/// RFC 5531: the maximum length of a verifier.
const VERIFIER: Part = Opaque(400);

/// Checks the reply to a call of `procedure`; the error says what is wrong with it.
pub(crate) fn check(reply: &[u8], program: u32, procedure: u32) -> Result<(), String> {
    let mut rest = Rest(reply);
    let (_id, direction, outcome) = (rest.number()?, rest.number()?, rest.number()?);
    if direction != 1 {
        return Err("a call instead of a reply".to_owned());
    }
    if outcome != 0 {
        return rest.end_within(12);
    }
    rest.number()?; // The verifier's flavour.
    rest.part(&VERIFIER)?;
    if rest.number()? != 0 {
        return rest.end_within(8);
    }
    if (program, procedure) == (PORTMAP, 3) {
        rest.part(&Bytes(4))?;
        return rest.end_within(0);
    }
    let (good, bad) =
        shape(program, procedure).ok_or_else(|| format!("procedure {procedure} is not in use"))?;
    let parts = if rest.number()? == 0 { good } else { bad };
    parts.iter().try_for_each(|part| rest.part(part))?;
    rest.end_within(0)
}

/// The unread part of a reply.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn number(&mut self) -> Result<u32, String> {
        let (number, rest) = self.0.split_first_chunk::<4>().ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*number))
    }

    fn flag(&mut self) -> Result<bool, String> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("{other} instead of a flag")),
        }
    }

    fn length(&mut self, most: usize) -> Result<usize, String> {
        let number = self.number()?;
        match usize::try_from(number) {
            Ok(length) if length <= most => Ok(length),
            _ => Err(format!("a length of {number}, above {most}")),
        }
    }

    fn skip(&mut self, bytes: usize) -> Result<(), String> {
        self.0 = self.0.get(bytes..).ok_or(CUT_OFF)?;
        Ok(())
    }

    fn part(&mut self, part: &Part) -> Result<(), String> {
        match part {
            Bytes(bytes) => self.skip(*bytes),
            Opaque(most) => {
                let length = self.length(*most)?;
                self.skip(length.next_multiple_of(4))
            }
            Numbers(most) => {
                let length = self.length(*most)?;
                self.skip(length * 4)
            }
            Optional(parts) => {
                if self.flag()? {
                    parts.iter().try_for_each(|part| self.part(part))?;
                }
                Ok(())
            }
            List(parts) => {
                while self.flag()? {
                    parts.iter().try_for_each(|part| self.part(part))?;
                }
                Ok(())
            }
        }
    }

    fn end_within(&self, bytes: usize) -> Result<(), String> {
        if self.0.len() <= bytes { Ok(()) } else { Err(format!("{} surplus bytes", self.0.len())) }
    }
}

const CUT_OFF: &str = "it is truncated";
