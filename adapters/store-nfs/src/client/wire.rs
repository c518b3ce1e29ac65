//! Conversions between the client's types and those of the protocol.

use super::error::{ClientError, Fault};
use super::types::{Attributes, Cursor, Handle, Listed, Name, Owner, Page};
use nfs3_client::nfs3_types::nfs3::{
    Nfs3Option, READDIR3resok, READDIRPLUS3resok, cookieverf3, diropargs3, entry3, entryplus3, fattr3,
    filename3, ftype3, nfs_fh3, post_op_attr, post_op_fh3, sattr3,
};
use nfs3_client::nfs3_types::xdr_codec::Opaque;

pub(crate) fn page_with_attributes(
    listed: READDIRPLUS3resok<'static>,
    from: Cursor,
) -> Result<Page, ClientError> {
    let last = listed.reply.entries.0.last().map(|entry| entry.cookie);
    let next = next(from, last, listed.cookieverf, listed.reply.eof)?;
    let entry = |entry: entryplus3<'static>| Listed {
        attributes: optional_attributes(&entry.name_attributes),
        handle: optional_handle(&entry.name_handle),
        name: entry.name.0.into_owned(),
    };
    Ok(Page { entries: without_dots(listed.reply.entries.0.into_iter().map(entry)), next })
}

pub(crate) fn page_of_names(listed: READDIR3resok<'static>, from: Cursor) -> Result<Page, ClientError> {
    let last = listed.reply.entries.0.last().map(|entry| entry.cookie);
    let next = next(from, last, listed.cookieverf, listed.reply.eof)?;
    let entry =
        |entry: entry3<'static>| Listed { attributes: None, handle: None, name: entry.name.0.into_owned() };
    Ok(Page { entries: without_dots(listed.reply.entries.0.into_iter().map(entry)), next })
}

/// Where the next page starts. A listing that makes no progress is refused: it would never end.
fn next(
    from: Cursor,
    last: Option<u64>,
    verifier: cookieverf3,
    is_end: bool,
) -> Result<Option<Cursor>, ClientError> {
    match last {
        _ if is_end => Ok(None),
        Some(cookie) if cookie != from.cookie && cookie != 0 => {
            Ok(Some(Cursor { cookie, verifier: verifier.0 }))
        }
        _ => Err(Fault::protocol("list a directory", "the listing makes no progress and does not end")),
    }
}

fn without_dots(entries: impl Iterator<Item = Listed>) -> Vec<Listed> {
    entries.filter(|entry| entry.name != b"." && entry.name != b"..").collect()
}

pub(crate) fn at<'a>(directory: &Handle, name: &'a Name) -> diropargs3<'a> {
    diropargs3 { dir: raw(directory), name: filename3::from(name.as_bytes()) }
}

pub(crate) fn raw(handle: &Handle) -> nfs_fh3 {
    nfs_fh3 { data: Opaque::owned(handle.0.to_vec()) }
}

pub(crate) fn handle_of(handle: &nfs_fh3) -> Result<Handle, ClientError> {
    if handle.data.is_empty() {
        return Err(Fault::protocol("look up", "an empty handle"));
    }
    Ok(Handle(handle.data.as_ref().into()))
}

fn optional_handle(handle: &post_op_fh3) -> Option<Handle> {
    match handle {
        Nfs3Option::Some(handle) => handle_of(handle).ok(),
        Nfs3Option::None => None,
    }
}

pub(crate) fn optional_attributes(attributes: &post_op_attr) -> Option<Attributes> {
    match attributes {
        Nfs3Option::Some(attributes) => Some(attributes_of(attributes)),
        Nfs3Option::None => None,
    }
}

pub(crate) fn attributes_of(attributes: &fattr3) -> Attributes {
    Attributes {
        is_directory: attributes.type_ == ftype3::NF3DIR,
        owner: Owner { uid: attributes.uid, gid: attributes.gid, mode: attributes.mode & 0o7777 },
        file_system: attributes.fsid,
        file: attributes.fileid,
        changed: (attributes.ctime.seconds, attributes.ctime.nseconds),
    }
}

pub(crate) fn owner_and_mode(owner: &Owner) -> sattr3 {
    sattr3 { uid: Nfs3Option::Some(owner.uid), gid: Nfs3Option::Some(owner.gid), ..mode_only(owner) }
}

pub(crate) fn mode_only(owner: &Owner) -> sattr3 {
    sattr3 { mode: Nfs3Option::Some(owner.mode), ..sattr3::default() }
}
