//! Frames of SPDY/3.1 (§2.2): eight bytes of head, then control data or a stream's bytes.
use bytes::{BufMut as _, Bytes, BytesMut};

/// Length of every frame's head.
pub(super) const HEAD: usize = 8;
/// Longest control frame that is read.
pub(super) const MAX_CONTROL: usize = 32 << 10;
/// The version of the protocol in control frames; 3.1 calls itself 3 there.
const VERSION: u16 = 3;
/// Flag of the last frame of a stream.
const FIN: u8 = 1;
/// Flag of a stream that the other side does not answer on.
const UNIDIRECTIONAL: u8 = 2;
/// The bit that tells control frames from data.
const CONTROL: u32 = 1 << 31;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;
/// The setting that says with which window streams begin.
const INITIAL_WINDOW_SIZE: u32 = 7;

/// A status of RST_STREAM: the stream was not opened.
pub(super) const REFUSED_STREAM: u32 = 3;

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Another version of the protocol, or another protocol.
    #[error("a frame is not of SPDY/3")]
    Version,
    /// Longer than any control frame needs to be.
    #[error("a control frame of {0} bytes is too long")]
    TooLong(usize),
    /// Not as long as its kind must be.
    #[error("a control frame is cut off")]
    Short,
    /// Names and values that cannot be read.
    #[error("a block of headers cannot be read")]
    Headers,
    /// A stream that cannot be opened under this number.
    #[error("a stream has the number {0}")]
    Stream(u32),
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// Bytes of a stream follow.
    Data {
        stream: u32,
        last: bool,
        length: usize,
    },
    /// Control data follows.
    Control { kind: u16, flags: u8, length: usize },
}

impl Head {
    /// Reads a head.
    ///
    /// # Errors
    /// It is of another protocol, or of a control frame that is too long.
    pub(super) fn parse(bytes: [u8; HEAD]) -> Result<Self, Error> {
        let [a, b, c, d, flags, rest @ ..] = bytes;
        let first = u32::from_be_bytes([a, b, c, d]);
        let length = rest
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if first & CONTROL == 0 {
            return Ok(Self::Data {
                stream: first,
                last: flags & FIN != 0,
                length,
            });
        }
        if (first & !CONTROL) >> 16 != u32::from(VERSION) {
            return Err(Error::Version);
        }
        if length > MAX_CONTROL {
            return Err(Error::TooLong(length));
        }
        let kind = u16::from_be_bytes([c, d]);
        Ok(Self::Control {
            kind,
            flags,
            length,
        })
    }
}

/// A control frame that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control<'a> {
    /// A stream is opened, with a block of headers.
    Open {
        stream: u32,
        /// Nothing will come on it.
        last: bool,
        /// Nothing must be sent on it.
        one_way: bool,
        block: &'a [u8],
    },
    /// Headers that are not needed but must be read, for the sake of those that follow.
    Headers { block: &'a [u8] },
    /// A stream is broken off.
    Reset { stream: u32 },
    /// To be sent back.
    Ping { id: u32 },
    /// The other side ends.
    GoAway,
    /// So many bytes more may be sent on a stream, or on all of them.
    Window { stream: u32, more: u32 },
    /// The window that streams begin with.
    FirstWindow { size: u32 },
    /// Of no use here.
    Other,
}

impl<'a> Control<'a> {
    /// Reads the body of a control frame.
    ///
    /// # Errors
    /// It is shorter than its kind must be.
    pub(super) fn parse(kind: u16, flags: u8, body: &'a [u8]) -> Result<Self, Error> {
        let number = |at: usize| -> Result<u32, Error> {
            let bytes = body.get(at..).and_then(|rest| rest.first_chunk());
            bytes
                .map(|bytes| u32::from_be_bytes(*bytes))
                .ok_or(Error::Short)
        };
        let block = |at: usize| body.get(at..).ok_or(Error::Short);
        Ok(match kind {
            SYN_STREAM => Self::Open {
                stream: number(0)? & !CONTROL,
                last: flags & FIN != 0,
                one_way: flags & UNIDIRECTIONAL != 0,
                block: block(10)?,
            },
            SYN_REPLY | HEADERS => Self::Headers { block: block(4)? },
            RST_STREAM => Self::Reset {
                stream: number(0)? & !CONTROL,
            },
            PING => Self::Ping { id: number(0)? },
            GOAWAY => Self::GoAway,
            WINDOW_UPDATE => Self::Window {
                stream: number(0)? & !CONTROL,
                more: number(4)? & !CONTROL,
            },
            SETTINGS => {
                let (_count, entries) = body.split_first_chunk::<4>().ok_or(Error::Short)?;
                match entries.as_chunks().0.iter().find_map(first_window) {
                    Some(size) => Self::FirstWindow { size },
                    None => Self::Other,
                }
            }
            _ => Self::Other,
        })
    }
}

/// The value of an entry of SETTINGS, if it is the window that streams begin with.
fn first_window(entry: &[u8; 8]) -> Option<u32> {
    // The first of the eight bytes has flags.
    let [_, a, b, c, value @ ..] = *entry;
    let is_window = u32::from_be_bytes([0, a, b, c]) == INITIAL_WINDOW_SIZE;
    is_window.then(|| u32::from_be_bytes(value) & !CONTROL)
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD + body.len());
    frame.put_u16(VERSION | 0x8000);
    frame.put_u16(kind);
    frame.put_u8(flags);
    frame.put_uint(body.len() as u64, 3);
    frame.put_slice(body);
    frame.freeze()
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
}

/// The answer to a stream that was opened.
pub(super) fn reply(stream: u32, block: &[u8]) -> Bytes {
    let mut body = numbers(&[stream]);
    body.extend_from_slice(block);
    control(SYN_REPLY, 0, &body)
}

/// Breaks a stream off.
pub(super) fn reset(stream: u32, status: u32) -> Bytes {
    control(RST_STREAM, 0, &numbers(&[stream, status]))
}

/// Sends a ping back.
pub(super) fn ping(id: u32) -> Bytes {
    control(PING, 0, &numbers(&[id]))
}

/// Says that the connection ends, all being well; with the last stream that was taken.
pub(super) fn go_away(stream: u32) -> Bytes {
    control(GOAWAY, 0, &numbers(&[stream, 0]))
}

/// Says that so many bytes more may be sent on a stream, or on all of them.
pub(super) fn window(stream: u32, more: u32) -> Bytes {
    control(WINDOW_UPDATE, 0, &numbers(&[stream, more]))
}

/// The head of a data frame with `length` bytes, which must be below 2^24.
pub(super) fn data(stream: u32, last: bool, length: usize) -> Bytes {
    let mut head = BytesMut::with_capacity(HEAD);
    head.put_u32(stream & !CONTROL);
    head.put_u8(if last { FIN } else { 0 });
    head.put_uint(length as u64, 3);
    head.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(frame: &Bytes) -> Head {
        Head::parse(*frame.first_chunk().unwrap()).unwrap()
    }

    #[test]
    fn frames_have_the_shape_of_the_specification() {
        assert_eq!(
            &ping(1)[..],
            b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01"
        );
        assert_eq!(&data(5, true, 258)[..], b"\x00\x00\x00\x05\x01\x00\x01\x02");
        let expected = Head::Data {
            stream: 5,
            last: true,
            length: 258,
        };
        assert_eq!(head(&data(5, true, 258)), expected);
        let Head::Control {
            kind,
            flags,
            length,
        } = head(&reset(7, REFUSED_STREAM))
        else {
            panic!("no control frame")
        };
        assert_eq!(length, 8);
        let frame = reset(7, REFUSED_STREAM);
        let read = Control::parse(kind, flags, &frame[HEAD..]).unwrap();
        assert_eq!(read, Control::Reset { stream: 7 });
        let open = Control::parse(SYN_STREAM, FIN, b"\0\0\0\x01\0\0\0\0\0\0block").unwrap();
        let expected = Control::Open {
            stream: 1,
            last: true,
            one_way: false,
            block: b"block",
        };
        assert_eq!(open, expected);
        let update = window(7, 9);
        let read = Control::parse(WINDOW_UPDATE, 0, &update[HEAD..]).unwrap();
        assert_eq!(read, Control::Window { stream: 7, more: 9 });
        let settings = b"\0\0\0\x02\0\0\0\x04\0\0\0\x64\x01\0\0\x07\0\x01\0\0";
        let read = Control::parse(SETTINGS, 0, settings).unwrap();
        assert_eq!(read, Control::FirstWindow { size: 65_536 });
        let read = Control::parse(SETTINGS, 0, &settings[..12]).unwrap();
        assert_eq!(read, Control::Other);
        let error = Head::parse(*b"GET / HT").unwrap();
        assert!(
            matches!(error, Head::Data { .. }),
            "data of a stream nobody opened"
        );
        assert_eq!(Head::parse(*b"\x80\x02\0\x01\0\0\0\0"), Err(Error::Version));
        let long = Head::parse(*b"\x80\x03\0\x01\0\xff\xff\xff");
        assert_eq!(long, Err(Error::TooLong(0xff_ffff)));
        assert_eq!(Control::parse(PING, 0, b"\0\0\0"), Err(Error::Short));
    }

    proptest! {
        #[test]
        fn anything_can_arrive(
            bytes in any::<[u8; HEAD]>(),
            kind in 0u16..12,
            flags in any::<u8>(),
            body in prop::collection::vec(any::<u8>(), 0..24),
        ) {
            let _ = Head::parse(bytes);
            let _ = Control::parse(kind, flags, &body);
        }
    }
}
