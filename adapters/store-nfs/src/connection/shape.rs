//! The shape of every answer that is asked for. The client library sets memory aside for whatever length an answer
//! names, before it looks whether that much has come: so each answer is walked first, and only one in which every
//! length fits is handed on.

/// One part of an answer.
enum Part {
    /// That many bytes, a multiple of four.
    Bytes(usize),
    /// A length of at most this, and that many bytes, padded to a multiple of four.
    Opaque(usize),
    /// A count of at most this, and that many numbers.
    Numbers(usize),
    /// A flag, and if it is set, these.
    Maybe(&'static [Part]),
    /// A flag and these, again and again, until the flag is not set.
    List(&'static [Part]),
}

use Part::{Bytes, List, Maybe, Numbers, Opaque};

const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;
const PORTMAP: u32 = 100_000;

/// RFC 1813: the longest handle.
const HANDLE: Part = Opaque(64);
/// RFC 1813 sets no limit to names; no file system has longer ones.
const NAME: Part = Opaque(1024);
const PATH: Part = Opaque(4096);
const ATTRIBUTES: Part = Bytes(84);
const PERHAPS_ATTRIBUTES: Part = Maybe(&[ATTRIBUTES]);
const PERHAPS_HANDLE: Part = Maybe(&[HANDLE]);
/// What a folder was before, and is after.
const CHANGE: [Part; 2] = [Maybe(&[Bytes(24)]), PERHAPS_ATTRIBUTES];
const MADE: &[Part] = &[PERHAPS_HANDLE, PERHAPS_ATTRIBUTES, Maybe(&[Bytes(24)]), PERHAPS_ATTRIBUTES];
const RENAMED: &[Part] = &[Maybe(&[Bytes(24)]), PERHAPS_ATTRIBUTES, Maybe(&[Bytes(24)]), PERHAPS_ATTRIBUTES];
const WRITTEN: &[Part] = &[Maybe(&[Bytes(24)]), PERHAPS_ATTRIBUTES, Bytes(16)];
const LISTED: &[Part] = &[PERHAPS_ATTRIBUTES, Bytes(8), List(&[Bytes(8), NAME, Bytes(8)]), Bytes(4)];
const LISTED_PLUS: &[Part] = &[
    PERHAPS_ATTRIBUTES,
    Bytes(8),
    List(&[Bytes(8), NAME, Bytes(8), PERHAPS_ATTRIBUTES, PERHAPS_HANDLE]),
    Bytes(4),
];

/// What follows the status of an answer.
struct Shape {
    good: &'static [Part],
    bad: &'static [Part],
}

fn shape(program: u32, procedure: u32) -> Option<Shape> {
    let shape = |good, bad| Some(Shape { good, bad });
    match (program, procedure) {
        (NFS, 1) => shape(&[ATTRIBUTES], &[]),
        (NFS, 2 | 12 | 13) => shape(&CHANGE, &CHANGE),
        (NFS, 3) => shape(&[HANDLE, PERHAPS_ATTRIBUTES, PERHAPS_ATTRIBUTES], &[PERHAPS_ATTRIBUTES]),
        (NFS, 5) => shape(&[PERHAPS_ATTRIBUTES, PATH], &[PERHAPS_ATTRIBUTES]),
        (NFS, 6) => shape(&[PERHAPS_ATTRIBUTES, Bytes(8), Opaque(REPLY_BYTES_MAX)], &[PERHAPS_ATTRIBUTES]),
        (NFS, 7) => shape(WRITTEN, &CHANGE),
        (NFS, 8..=10) => shape(MADE, &CHANGE),
        (NFS, 14) => shape(RENAMED, RENAMED),
        (NFS, 16) => shape(LISTED, &[PERHAPS_ATTRIBUTES]),
        (NFS, 17) => shape(LISTED_PLUS, &[PERHAPS_ATTRIBUTES]),
        (NFS, 18) => shape(&[PERHAPS_ATTRIBUTES, Bytes(52)], &[PERHAPS_ATTRIBUTES]),
        (MOUNT, 1) => shape(&[HANDLE, Numbers(64)], &[]),
        _ => None,
    }
}

/// The largest answer that is taken, in bytes: several times what is ever asked for.
pub(crate) const REPLY_BYTES_MAX: usize = 256 * 1024;
/// RFC 5531: the longest proof of who answers.
const VERIFIER: Part = Opaque(400);

/// Whether `reply` may be handed on as the answer to a call of `procedure`; else what is wrong with it.
pub(crate) fn check(reply: &[u8], program: u32, procedure: u32) -> Result<(), String> {
    let mut rest = Rest(reply);
    let (_id, direction, outcome) = (rest.number()?, rest.number()?, rest.number()?);
    if direction != 1 {
        return Err("a call where an answer should be".to_owned());
    }
    if outcome != 0 {
        return rest.end_within(12);
    }
    rest.number()?; // The flavour of the proof.
    rest.part(&VERIFIER)?;
    if rest.number()? != 0 {
        return rest.end_within(8);
    }
    if (program, procedure) == (PORTMAP, 3) {
        rest.part(&Bytes(4))?;
        return rest.end_within(0);
    }
    let shape =
        shape(program, procedure).ok_or_else(|| format!("procedure {procedure} was not asked for"))?;
    let parts = if rest.number()? == 0 { shape.good } else { shape.bad };
    parts.iter().try_for_each(|part| rest.part(part))?;
    rest.end_within(0)
}

/// What is left of an answer.
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
            other => Err(format!("{other} where yes or no should be")),
        }
    }

    fn length(&mut self, most: usize) -> Result<usize, String> {
        let number = self.number()?;
        match usize::try_from(number) {
            Ok(length) if length <= most => Ok(length),
            _ => Err(format!("a length of {number}, and {most} is the most")),
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
            Maybe(parts) => {
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
        if self.0.len() <= bytes { Ok(()) } else { Err(format!("{} bytes too many", self.0.len())) }
    }
}

const CUT_OFF: &str = "it is cut off";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn an_answer_in_which_every_length_fits_is_handed_on() {
        let found = [&[7, 1, 0, 0, 0, 0, 0, 4, 0xaabb_ccdd][..], &[0, 0]].concat();
        assert_eq!(check(&words(&found), NFS, 3), Ok(()));
        assert_eq!(check(&words(&[7, 1, 0, 0, 0, 0, 2, 0]), NFS, 3), Ok(()), "not there");
        assert_eq!(check(&words(&[7, 1, 0, 0, 0, 0, 111]), PORTMAP, 3), Ok(()));
        assert_eq!(check(&words(&[7, 1, 1, 1, 2]), NFS, 3), Ok(()), "denied");
    }

    #[test]
    fn an_answer_with_a_length_that_does_not_fit_is_not() {
        for absurd in [
            &[7, 0][..],
            &[7, 1, 0, 0, 0, 0, 0, u32::MAX],
            &[7, 1, 0, 0, 0, 0, 0, 65],
            &[7, 1, 0, 0, 0, 0, 0, 8, 1],
            &[7, 1, 0, 0, u32::MAX],
            &[7, 1, 0, 0, 0, 0, 0, 4, 1, 9],
            &[7, 1, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0],
        ] {
            assert!(check(&words(absurd), NFS, 3).is_err(), "{absurd:?}");
        }
        assert!(check(&words(&[7, 1, 0, 0, 0, 0, 0, 4, 1, u32::MAX]), MOUNT, 1).is_err());
        assert!(check(&words(&[7, 1, 0, 0, 0, 0, 0]), NFS, 21).is_err(), "never asked");
    }
}
