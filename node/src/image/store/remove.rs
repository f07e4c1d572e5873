//! Removing a name, and with its last name the image.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::garbage::{self, Collected};
use super::index::{self, Record, State};
use super::{Inner, blocking, users_of};
use crate::image::digest::Digest;
use crate::image::error::Error;
use crate::image::reference::Reference;

/// Shortest prefix of an id that is taken for one.
const MIN_PREFIX: usize = 4;

pub(super) async fn remove(inner: &Arc<Inner>, name: &str) -> Result<Collected, Error> {
    let (inner, name) = (Arc::clone(inner), name.to_owned());
    blocking("remove an image", move || {
        let gone = {
            let mut state = inner.state.lock();
            unname(&mut state, &name)?
        };
        index::save(&inner)?;
        match gone {
            None => Ok(Collected::default()),
            Some(id) => {
                let bytes = garbage::sweep(&inner)?;
                Ok(Collected {
                    images: vec![id],
                    bytes,
                    missing: 0,
                })
            }
        }
    })
    .await
}

/// Takes the name away, and tells the image that went with it.
fn unname(state: &mut State, name: &str) -> Result<Option<Digest>, Error> {
    let (id, untagged) = find(state, name)?;
    let record = state.get(&id).ok_or_else(|| Error::Unknown {
        name: name.to_owned(),
    })?;
    let others = untagged.as_ref().is_some_and(|untagged| {
        record.names.iter().chain(&record.digests).any(|other| {
            // Digests are names of their own only as long as a tag goes with them.
            other != untagged && (untagged.digest().is_some() || other.digest().is_none())
        })
    });
    if let (true, Some(untagged)) = (others, &untagged) {
        if let Some(record) = state.get_mut(&id) {
            record.names.remove(untagged);
            record.digests.retain(|digest| digest != untagged);
        }
        return Ok(None);
    }
    let users: Vec<_> = users_of(&state.prepared, &id).cloned().collect();
    if !users.is_empty() {
        return Err(Error::InUse {
            name: name.to_owned(),
            users,
        });
    }
    state.remove(&id);
    Ok(Some(id))
}

/// The image, and the name that was meant; none if the image itself was.
fn find(state: &State, name: &str) -> Result<(Digest, Option<Reference>), Error> {
    let unknown = || Error::Unknown {
        name: name.to_owned(),
    };
    if let Ok(reference) = Reference::parse(name)
        && let Some(record) = state.find(&reference)
    {
        let named = match reference.digest() {
            Some(digest) => reference.with_digest(digest.clone()),
            None => reference,
        };
        return Ok((record.id.clone(), Some(named)));
    }
    let prefix = name.strip_prefix("sha256:").unwrap_or(name);
    if prefix.len() < MIN_PREFIX || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(unknown());
    }
    let fitting: BTreeMap<&Digest, &Record> = state
        .records()
        .filter(|record| record.id.hex().starts_with(prefix))
        .map(|record| (&record.id, record))
        .collect();
    match fitting.len() {
        1 => fitting
            .into_keys()
            .next()
            .cloned()
            .map(|id| (id, None))
            .ok_or_else(unknown),
        _ => Err(unknown()),
    }
}
