//! What is kept of a file: the interfaces it names, and its machine code.

use super::inspect::Inspected;
use wasmtime::component::Component;

const LENGTH_BYTES: usize = 4;

/// One text: the length of the names as four bytes, the names as JSON, the code.
pub(super) fn join(inspected: &Inspected, code: &[u8]) -> Vec<u8> {
    let names = serde_json::to_vec(inspected).unwrap_or_default();
    let length = u32::try_from(names.len()).unwrap_or_default().to_le_bytes();
    [&length, names.as_slice(), code].concat()
}

/// The parts of an artifact.
pub(super) fn split(artifact: &[u8]) -> Option<(Inspected, &[u8])> {
    let (length, rest) = artifact.split_at_checked(LENGTH_BYTES)?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let (names, code) = rest.split_at_checked(length)?;
    Some((serde_json::from_slice(names).ok()?, code))
}

/// Loads machine code that [`super::compile`] made, directly or by way of the cache.
pub(super) fn deserialize(engine: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Component> {
    #[expect(
        unsafe_code,
        reason = "wasmtime trusts machine code; see the safety note"
    )]
    // SAFETY: the bytes are what `precompile_component` of an engine with these settings returned,
    // in this process, in its compiler child, or earlier into the cache, which only this user can
    // write and whose digest was checked. wasmtime itself refuses code of another version.
    unsafe {
        Component::deserialize(engine, code)
    }
}
