//! Parts of replies as they are on the wire.

use nfs3_client::nfs3_types::nfs3::nfsstat3;
use nfs3_client::nfs3_types::xdr_codec::{Opaque, Pack};

/// A status, and the optional parts of a failure, which are all absent.
pub(crate) fn refusal(procedure: u32, status: nfsstat3) -> Vec<u8> {
    [packed(&status), vec![0; optional_words(procedure) * 4]].concat()
}

/// How many optional parts follow the status of a failed procedure.
pub(crate) fn optional_words(procedure: u32) -> usize {
    match procedure {
        1 => 0,
        3 | 5 | 6 | 16..=18 => 1,
        14 => 4,
        _ => 2,
    }
}

pub(crate) fn packed(what: &impl Pack) -> Vec<u8> {
    let mut bytes = Vec::new();
    what.pack(&mut bytes).unwrap();
    bytes
}

pub(crate) fn opaque(bytes: &[u8]) -> Opaque<'static> {
    Opaque::owned(bytes.to_vec())
}
