//! The entries of a database: one that says where history begins, then the pieces of all records in the order of their places.
use super::super::Revision;
use super::super::clock::Millis;
use super::super::digest::Digest;
use super::super::state::Place;

/// The largest value given to sled: it writes some twenty neighbours as one message, which must stay under a quarter segment.
pub(super) const PIECE_BYTES: usize = 16 << 10;

/// The key of the entry that says where history begins; it sorts before all others.
pub(super) const FLOOR_KEY: &[u8] = &[0];

const RECORD_TAG: u8 = 1;
const KEY_BYTES: usize = 1 + 8 + 4 + 2;

/// The key of a piece of the record at a place.
pub(super) fn key(place: Place, piece: u16) -> [u8; KEY_BYTES] {
    let mut key = [RECORD_TAG; KEY_BYTES];
    key[1..9].copy_from_slice(&place.revision.to_be_bytes());
    key[9..13].copy_from_slice(&place.op.to_be_bytes());
    key[13..].copy_from_slice(&piece.to_be_bytes());
    key
}

/// What [`key`] was made of.
pub(super) fn read_key(key: &[u8]) -> Option<(Place, u16)> {
    let (&tag, rest) = key.split_first()?;
    let (revision, rest) = rest.split_first_chunk()?;
    let (op, piece) = rest.split_first_chunk()?;
    let (revision, op) = (u64::from_be_bytes(*revision), u32::from_be_bytes(*op));
    let piece = u16::from_be_bytes(piece.try_into().ok()?);
    (tag == RECORD_TAG).then_some((Place { revision, op }, piece))
}

/// The oldest revision, with the digest of what lived then, and when it was made (0: not known).
pub(super) fn floor(floor: Revision, digest: Digest, time: Millis) -> Vec<u8> {
    [floor, digest.live, digest.sum, time]
        .map(u64::to_le_bytes)
        .concat()
}

/// What [`floor`] was made of. Formats before 3 had no time.
pub(super) fn read_floor(value: &[u8]) -> Option<(Revision, Digest, Millis)> {
    let (words, rest) = value.as_chunks::<8>();
    let (floor, live, sum, time) = match *words {
        [floor, live, sum] => (floor, live, sum, [0; 8]),
        [floor, live, sum, time] => (floor, live, sum, time),
        _ => return None,
    };
    let [floor, live, sum, time] = [floor, live, sum, time].map(u64::from_le_bytes);
    rest.is_empty()
        .then_some((floor, Digest { live, sum }, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_sort_as_they_are_read() {
        let place = |revision, op| Place { revision, op };
        let places = [
            (place(2, 0), 0),
            (place(2, 0), 1),
            (place(2, 1), 0),
            (place(256, 0), 0),
        ];
        let keys = places.map(|(place, piece)| key(place, piece));
        assert!(keys.is_sorted() && FLOOR_KEY < &keys[0][..]);
        assert_eq!(keys.map(|key| read_key(&key).unwrap()), places);
        assert_eq!(read_key(b"\x01short"), None);
        assert_eq!(read_key(&[2; KEY_BYTES]), None);
        let digest = Digest { live: 1, sum: 2 };
        let bytes = floor(7, digest, 9);
        assert_eq!(read_floor(&bytes), Some((7, digest, 9)));
        assert_eq!(read_floor(&bytes[..24]), Some((7, digest, 0)));
        assert_eq!(read_floor(&[0; 25]), None);
    }
}
