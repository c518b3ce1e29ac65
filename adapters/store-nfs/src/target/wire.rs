//! The seam's words and the protocol's, one into the other.

use super::{Attributes, Bookmark, Fault, Handle, Listed, Name, Owner, Page, TargetError};
use nfs3_client::nfs3_types::nfs3::{
    Nfs3Option, READDIR3resok, READDIRPLUS3resok, cookieverf3, diropargs3, entry3, entryplus3, fattr3,
    filename3, ftype3, nfs_fh3, post_op_attr, post_op_fh3, sattr3,
};
use nfs3_client::nfs3_types::xdr_codec::Opaque;

/// A page of a listing with attributes, asked for from `from` on.
pub(crate) fn page_with_attributes(
    listed: READDIRPLUS3resok<'static>,
    from: Bookmark,
) -> Result<Page, TargetError> {
    let last = listed.reply.entries.0.last().map(|entry| entry.cookie);
    let next = next(from, last, listed.cookieverf, listed.reply.eof)?;
    let entry = |entry: entryplus3<'static>| Listed {
        attributes: read_attributes(&entry.name_attributes),
        handle: perhaps_handle(&entry.name_handle),
        name: entry.name.0.into_owned(),
    };
    Ok(Page { entries: real(listed.reply.entries.0.into_iter().map(entry)), next })
}

/// A page of a listing without attributes, asked for from `from` on.
pub(crate) fn page_of_names(listed: READDIR3resok<'static>, from: Bookmark) -> Result<Page, TargetError> {
    let last = listed.reply.entries.0.last().map(|entry| entry.cookie);
    let next = next(from, last, listed.cookieverf, listed.reply.eof)?;
    let entry =
        |entry: entry3<'static>| Listed { attributes: None, handle: None, name: entry.name.0.into_owned() };
    Ok(Page { entries: real(listed.reply.entries.0.into_iter().map(entry)), next })
}

/// Where to go on. A server that leads in circles is not followed.
fn next(
    from: Bookmark,
    last: Option<u64>,
    verifier: cookieverf3,
    is_end: bool,
) -> Result<Option<Bookmark>, TargetError> {
    match last {
        _ if is_end => Ok(None),
        Some(cookie) if cookie != from.cookie && cookie != 0 => {
            Ok(Some(Bookmark { cookie, verifier: verifier.0 }))
        }
        _ => Err(TargetError {
            call: "list a folder",
            fault: Fault::Nonsense("the listing does not go on and does not end".to_owned()),
        }),
    }
}

/// Without the folder itself and the one above.
fn real(entries: impl Iterator<Item = Listed>) -> Vec<Listed> {
    entries.filter(|entry| entry.name != b"." && entry.name != b"..").collect()
}

pub(crate) fn at<'a>(folder: &Handle, name: &'a Name) -> diropargs3<'a> {
    diropargs3 { dir: raw(folder), name: filename3::from(name.as_bytes()) }
}

pub(crate) fn raw(handle: &Handle) -> nfs_fh3 {
    nfs_fh3 { data: Opaque::owned(handle.0.to_vec()) }
}

pub(crate) fn handle_of(handle: &nfs_fh3) -> Result<Handle, TargetError> {
    if handle.data.is_empty() {
        let fault = Fault::Nonsense("an empty handle".to_owned());
        return Err(TargetError { call: "look up", fault });
    }
    Ok(Handle(handle.data.as_ref().into()))
}

fn perhaps_handle(handle: &post_op_fh3) -> Option<Handle> {
    match handle {
        Nfs3Option::Some(handle) => handle_of(handle).ok(),
        Nfs3Option::None => None,
    }
}

pub(crate) fn read_attributes(attributes: &post_op_attr) -> Option<Attributes> {
    match attributes {
        Nfs3Option::Some(attributes) => Some(attributes_of(attributes)),
        Nfs3Option::None => None,
    }
}

pub(crate) fn attributes_of(attributes: &fattr3) -> Attributes {
    Attributes {
        is_folder: attributes.type_ == ftype3::NF3DIR,
        owner: Owner { uid: attributes.uid, gid: attributes.gid, mode: attributes.mode & 0o7777 },
        length_bytes: attributes.size,
        used_bytes: attributes.used,
        file_system: attributes.fsid,
        file: attributes.fileid,
        changed: (attributes.ctime.seconds, attributes.ctime.nseconds),
    }
}

pub(crate) fn wanted(owner: &Owner) -> sattr3 {
    sattr3 { uid: Nfs3Option::Some(owner.uid), gid: Nfs3Option::Some(owner.gid), ..mode_only(owner) }
}

pub(crate) fn mode_only(owner: &Owner) -> sattr3 {
    sattr3 { mode: Nfs3Option::Some(owner.mode), ..sattr3::default() }
}
