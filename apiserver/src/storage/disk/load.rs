//! Reads a database back, entry by entry, and refuses one from which anything is missing.
use std::time::Instant;

use super::super::Keyring;
use super::super::digest::Digest;
use super::super::record::{Flaw, Record};
use super::super::state::{Place, State};
use super::layout;

/// Takes the entries of a database in order and builds the state.
pub(super) struct Loader<'k> {
    state: State,
    seal: Option<&'k Keyring>,
    unsealed: usize,
    expected: Digest,
    /// The record whose pieces are being gathered.
    place: Option<Place>,
    pieces: Vec<u8>,
    next_piece: u16,
    /// Where the previous change stood, and whether it ended its revision.
    previous: Option<(Place, bool)>,
    now: Instant,
}

impl<'k> Loader<'k> {
    /// Begins with the first entry, which says where history begins.
    pub(super) fn new(key: &[u8], value: &[u8], seal: Option<&'k Keyring>) -> Result<Self, String> {
        let floor = layout::read_floor(value).filter(|_| key == layout::FLOOR_KEY);
        let (floor, expected, time) =
            floor.ok_or("its database does not say where its history begins")?;
        Ok(Self {
            state: State::at(floor, time),
            seal,
            unsealed: 0,
            expected,
            place: None,
            pieces: Vec::new(),
            next_piece: 0,
            previous: None,
            now: Instant::now(),
        })
    }

    /// Takes the next entry.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Flaw> {
        let (place, piece) = layout::read_key(key)
            .ok_or_else(|| "its database has an entry of another kind".to_owned())?;
        if self.place != Some(place) {
            self.complete()?;
            self.place = Some(place);
        }
        if piece != self.next_piece {
            return Err(format!("a part of revision {} is missing", place.revision).into());
        }
        self.next_piece += 1;
        self.pieces.extend_from_slice(value);
        Ok(())
    }

    /// Takes in the record whose pieces are all there.
    fn complete(&mut self) -> Result<(), Flaw> {
        let Some(place) = self.place.take() else {
            return Ok(());
        };
        let (record, settled) = Record::decode(&self.pieces, self.seal)?;
        self.unsealed += usize::from(!settled);
        self.pieces.clear();
        self.next_piece = 0;
        if record.place != place {
            return Err(
                format!("revision {} stands in the place of another", place.revision).into(),
            );
        }
        match record.kv {
            Some(kv) if place.revision <= self.state.floor() => self.state.seed(kv, place.op)?,
            _ => self.replay(record)?,
        }
        Ok(())
    }

    fn replay(&mut self, record: Record) -> Result<(), String> {
        let place = record.place;
        let follows = match self.previous {
            None => {
                self.check_floor()?;
                place.op == 0 && place.revision == self.state.floor() + 1
            }
            Some((before, true)) => place.op == 0 && place.revision == before.revision + 1,
            Some((before, false)) => place.revision == before.revision && place.op == before.op + 1,
        };
        if !follows {
            return Err(format!(
                "a change before revision {} is missing",
                place.revision
            ));
        }
        let change = self
            .state
            .change(place, record.last, &record.key, record.kv, record.at)?;
        if change.digest != record.digest {
            return Err(format!(
                "a key was lost or came back before revision {}",
                place.revision
            ));
        }
        self.previous = Some((place, record.last));
        self.state.apply(change, self.now);
        Ok(())
    }

    fn check_floor(&self) -> Result<(), String> {
        if self.state.digest() == self.expected {
            return Ok(());
        }
        let (found, expected) = (self.state.keys(), self.expected.live());
        let floor = self.state.floor();
        Err(format!(
            "revision {floor} has {found} keys that are not the {expected} written"
        ))
    }

    /// The state, when all entries were taken, and how many values are not sealed as they should be.
    pub(super) fn finish(mut self) -> Result<(State, usize), Flaw> {
        self.complete()?;
        match self.previous {
            None => self.check_floor()?,
            Some((place, false)) => {
                return Err(format!("revision {} is there only in part", place.revision).into());
            }
            Some((_, true)) => {}
        }
        Ok((self.state, self.unsealed))
    }
}
