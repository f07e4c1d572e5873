//! The records of pax extended headers (POSIX.1-2001): `length key=value newline`.

use std::collections::BTreeMap;

use super::sparse::Segment;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// All records before one member; the last of a key counts.
#[derive(Debug, Default)]
pub(super) struct Records {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Offsets and lengths of the sparse format 0.0, which repeats its keys.
    repeated: Vec<u64>,
}

impl Records {
    /// Reads the data of an `x` header.
    pub(super) fn add(&mut self, mut data: &[u8]) -> Result<(), &'static str> {
        while !data.is_empty() {
            if data.iter().all(|b| *b == 0) {
                return Ok(());
            }
            let space = data
                .iter()
                .position(|b| *b == b' ')
                .ok_or("a pax record has no length")?;
            let (length, _) = data.split_at(space);
            let length = decimal(length)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length <= space + 1 || length > data.len() {
                return Err("the length of a pax record is wrong");
            }
            let (record, rest) = data.split_at(length);
            let body = record.get(space + 1..).unwrap_or_default();
            let body = body
                .strip_suffix(b"\n")
                .ok_or("a pax record does not end with a newline")?;
            let equals = body
                .iter()
                .position(|b| *b == b'=')
                .ok_or("a pax record has no '='")?;
            let (key, value) = body.split_at(equals);
            let value = value.strip_prefix(b"=").unwrap_or_default();
            self.insert(key, value)?;
            data = rest;
        }
        Ok(())
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if key.is_empty() {
            return Err("a pax record has no key");
        }
        if key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes" {
            self.repeated.push(decimal(value)?);
        } else if value.is_empty() && !key.starts_with(XATTR) {
            self.values.remove(key);
        } else {
            self.values.insert(key.to_vec(), value.to_vec());
        }
        Ok(())
    }

    pub(super) fn text(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.values.get(key).cloned()
    }

    pub(super) fn number(&self, key: &[u8]) -> Result<Option<u64>, &'static str> {
        self.values.get(key).map(|value| decimal(value)).transpose()
    }

    /// Seconds with an optional sign and fraction.
    pub(super) fn time(&self, key: &[u8]) -> Result<Option<(i64, u32)>, &'static str> {
        const WRONG: &str = "a time is not a number";
        let Some(value) = self.values.get(key) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(value).map_err(|_not_text| WRONG)?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i64 = whole.parse().map_err(|_not_number| WRONG)?;
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return Err(WRONG);
        }
        let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
        let nanos = digits.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
        if whole.starts_with('-') && nanos > 0 {
            return Ok(Some((seconds.saturating_sub(1), 1_000_000_000 - nanos)));
        }
        Ok(Some((seconds, nanos)))
    }

    /// Extended attributes: names and binary values.
    pub(super) fn xattrs(self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.values
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(XATTR)?.to_vec(), value)))
            .collect()
    }

    /// The size with holes, if the member is sparse.
    pub(super) fn sparse_size(&self) -> Result<Option<u64>, &'static str> {
        Ok(match self.number(b"GNU.sparse.realsize")? {
            None => self.number(b"GNU.sparse.size")?,
            size => size,
        })
    }

    /// True if the map stands before the data.
    pub(super) fn is_sparse_1_0(&self) -> bool {
        let is = |key: &[u8], value: &[u8]| self.values.get(key).is_some_and(|v| v == value);
        is(b"GNU.sparse.major", b"1") && is(b"GNU.sparse.minor", b"0")
    }

    /// The map of formats 0.0 and 0.1.
    pub(super) fn sparse_map(&self) -> Result<Vec<Segment>, &'static str> {
        let numbers = match self.values.get(b"GNU.sparse.map".as_slice()) {
            Some(map) => map
                .split(|b| *b == b',')
                .map(decimal)
                .collect::<Result<Vec<_>, _>>()?,
            None => self.repeated.clone(),
        };
        let (pairs, rest) = numbers.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a sparse map has an odd number of fields");
        }
        Ok(pairs
            .iter()
            .map(|[offset, length]| Segment {
                offset: *offset,
                length: *length,
            })
            .collect())
    }
}

pub(super) fn decimal(text: &[u8]) -> Result<u64, &'static str> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err("a number is not decimal");
    }
    text.iter()
        .try_fold(0_u64, |value, digit| {
            value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
        .ok_or("a number is too big")
}
