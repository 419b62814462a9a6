//! Puts bytes into a pool.

use super::{
    Pool, Session, StorageError,
    copy::{Flow, make_volume},
};

/// Makes a volume of these bytes, in place of one of the same name.
pub(in crate::remediate) fn put_whole(
    session: &Session,
    pool: &Pool,
    name: &str,
    bytes: &[u8],
) -> Result<(), StorageError> {
    pool.remove(session, name)?;
    let length = bytes.len() as u64;
    let volume = make_volume(session, pool, name, length)?;
    let up = Flow::open(session, |stream| volume.upload(stream, 0, length, 0))?;
    up.send(bytes)?;
    up.finish()
}
