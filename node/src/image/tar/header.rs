//! The 512-byte header of a tar member.

/// Size of a header, and the unit data is padded to.
pub(super) const BLOCK: usize = 512;

/// A header whose checksum is right.
#[derive(Debug)]
pub(super) struct Header {
    block: [u8; BLOCK],
}

impl Header {
    pub(super) fn new(block: [u8; BLOCK]) -> Result<Self, &'static str> {
        let header = Self { block };
        let stored = number(header.field(148, 8))?;
        let blanked = |at: usize| (148..156).contains(&at);
        let unsigned: u64 = header
            .block
            .iter()
            .enumerate()
            .map(|(at, b)| u64::from(if blanked(at) { b' ' } else { *b }))
            .sum();
        // Some old writers summed signed characters.
        let signed: i64 = header
            .block
            .iter()
            .enumerate()
            .map(|(at, b)| i64::from(if blanked(at) { b' ' } else { *b }.cast_signed()))
            .sum();
        if stored != unsigned && i64::try_from(stored) != Ok(signed) {
            return Err("its checksum is wrong");
        }
        Ok(header)
    }

    /// Bytes `at .. at + len`; empty if that is outside, which no caller asks for.
    pub(super) fn field(&self, at: usize, len: usize) -> &[u8] {
        self.block.get(at..at + len).unwrap_or_default()
    }

    pub(super) fn kind(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or_default()
    }

    /// The name, with the prefix of ustar.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(self.field(0, 100));
        // GNU uses the place of the prefix for other things.
        if self.field(257, 6) != b"ustar\0" {
            return name.to_vec();
        }
        let prefix = text(self.field(345, 155));
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(self.field(157, 100)).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32, &'static str> {
        // Higher bits are the file type in some writers; only the lower ones are used.
        Ok(u32::try_from(number(self.field(100, 8))? & 0o7777).unwrap_or_default())
    }

    pub(super) fn uid(&self) -> Result<u64, &'static str> {
        number(self.field(108, 8))
    }

    pub(super) fn gid(&self) -> Result<u64, &'static str> {
        number(self.field(116, 8))
    }

    pub(super) fn size(&self) -> Result<u64, &'static str> {
        number(self.field(124, 12))
    }

    pub(super) fn mtime(&self) -> Result<i64, &'static str> {
        signed(self.field(136, 12))
    }
}

fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    field.get(..end).unwrap_or_default()
}

/// An unsigned number: octal text, or GNU's big-endian binary.
pub(super) fn number(field: &[u8]) -> Result<u64, &'static str> {
    u64::try_from(signed(field)?).map_err(|_negative| "a number is negative")
}

fn signed(field: &[u8]) -> Result<i64, &'static str> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => binary(field),
        _ => octal(field),
    }
}

/// Two's complement; the highest bit only marks the format, and the one below it is the sign.
fn binary(field: &[u8]) -> Result<i64, &'static str> {
    let negative = field.first().is_some_and(|first| first & 0x40 != 0);
    let mut value: i128 = if negative { -1 } else { 0 };
    for (at, byte) in field.iter().enumerate() {
        let byte = match (at, negative) {
            (0, false) => byte & 0x7f,
            _ => *byte,
        };
        value = (value << 8) | i128::from(byte);
    }
    i64::try_from(value).map_err(|_big| "a number is too big")
}

fn octal(field: &[u8]) -> Result<i64, &'static str> {
    let field = field.trim_ascii_start();
    let end = field
        .iter()
        .position(|b| matches!(b, 0 | b' '))
        .unwrap_or(field.len());
    let mut value: i64 = 0;
    for digit in field.get(..end).unwrap_or_default() {
        if !(b'0'..=b'7').contains(digit) {
            return Err("a number is not octal");
        }
        let digit = i64::from(digit - b'0');
        value = value
            .checked_mul(8)
            .and_then(|value| value.checked_add(digit))
            .ok_or("a number is too big")?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_octal_and_binary_numbers() {
        assert_eq!(number(b"0000644\0"), Ok(0o644));
        assert_eq!(number(b"  644 \0\0"), Ok(0o644));
        assert_eq!(number(b"\0\0\0\0"), Ok(0));
        assert_eq!(number(b"77777777"), Ok(0o7777_7777));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Ok(256));
        assert_eq!(signed(&[0xff; 12]), Ok(-1));
        assert_eq!(signed(&[0xff, 0xff, 0xff, 0xfe]), Ok(-2));
        assert!(number(&[0xff; 12]).is_err());
        assert!(number(&[0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(number(b"00x").is_err());
    }
}
