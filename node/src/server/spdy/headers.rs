//! Header blocks of SPDY/3.1: names and values, compressed with one zlib stream a direction (SPDY/3 §2.6.10).
use flate2::{Decompress, FlushDecompress, Status};

use super::frame::Error;

/// Longest block after decompression.
const MAX_BLOCK: usize = 64 << 10;
/// Most names in a block.
const MAX_NAMES: u32 = 256;
/// Second byte of a zlib stream that tells of a dictionary.
const HAS_DICTIONARY: u8 = 0x20;

/// Words that the dictionary begins with, each with its length in front.
const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];
/// The text that it ends with.
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 No\
    n-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 \
    Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Fe\
    b Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunke\
    d,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/\
    javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// The dictionary of the protocol.
fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in WORDS {
        put_text(&mut bytes, word);
    }
    bytes.extend_from_slice(TEXT.as_bytes());
    bytes
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// The checksum by which zlib knows a dictionary (RFC 1950 §8.2).
fn adler32(bytes: &[u8]) -> u32 {
    let (mut low, mut high) = (1u32, 0u32);
    for byte in bytes {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    high << 16 | low
}

/// Bytes as a block of a deflate stream that is not compressed (RFC 1951 §3.2.4). It ends at a byte's end.
fn stored(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let head = [0u8].into_iter();
    head.chain(length.to_le_bytes())
        .chain((!length).to_le_bytes())
        .chain(bytes.iter().copied().take(length.into()))
}

/// Names and values, names in lower case; several values of one name are several pairs.
pub(super) type Headers = Vec<(String, String)>;

/// Reads the blocks of one direction.
#[derive(Debug)]
pub(super) struct Reader {
    stream: Decompress,
    begun: bool,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            stream: Decompress::new(false),
            begun: false,
        }
    }

    /// The next block.
    ///
    /// # Errors
    /// It is not what it should be, or too long. The connection cannot go on then.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, Error> {
        let compressed = if self.begun {
            block
        } else {
            self.begun = true;
            self.begin(block)?
        };
        parse(&self.inflate(compressed, MAX_BLOCK)?)
    }

    /// Reads the head of the zlib stream. What follows is a plain deflate stream, and a dictionary is nothing but text
    /// that was there before: so it is given as such.
    fn begin<'a>(&mut self, block: &'a [u8]) -> Result<&'a [u8], Error> {
        let ([method, flags], rest) = block.split_first_chunk().ok_or(Error::Headers)?;
        if method & 0x0f != 8 || u16::from_be_bytes([*method, *flags]) % 31 != 0 {
            return Err(Error::Headers);
        }
        if flags & HAS_DICTIONARY == 0 {
            return Ok(rest);
        }
        let (id, rest) = rest.split_first_chunk().ok_or(Error::Headers)?;
        let dictionary = dictionary();
        if u32::from_be_bytes(*id) != adler32(&dictionary) {
            return Err(Error::Headers);
        }
        let primer: Vec<u8> = stored(&dictionary).collect();
        self.inflate(&primer, dictionary.len())?;
        Ok(rest)
    }

    fn inflate(&mut self, mut from: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        loop {
            text.reserve(4 << 10);
            let (read, length) = (self.stream.total_in(), text.len());
            let status = self
                .stream
                .decompress_vec(from, &mut text, FlushDecompress::Sync)
                .map_err(|_| Error::Headers)?;
            let read = usize::try_from(self.stream.total_in() - read).unwrap_or(0);
            from = from.get(read..).unwrap_or_default();
            let stuck = read == 0 && text.len() == length;
            if status == Status::StreamEnd || text.len() > limit || (stuck && !from.is_empty()) {
                return Err(Error::Headers);
            }
            // With room left there is nothing more to come out.
            if stuck || (from.is_empty() && text.len() < text.capacity()) {
                return Ok(text);
            }
        }
    }
}

fn parse(block: &[u8]) -> Result<Headers, Error> {
    let mut rest = block;
    let count = take_number(&mut rest)?;
    if count > MAX_NAMES {
        return Err(Error::Headers);
    }
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = take_text(&mut rest)?.to_ascii_lowercase();
        let values = take_text(&mut rest)?;
        headers.extend(
            values
                .split('\0')
                .map(|value| (name.clone(), value.to_owned())),
        );
    }
    Ok(headers)
}

fn take_number(rest: &mut &[u8]) -> Result<u32, Error> {
    let (number, after) = rest.split_first_chunk().ok_or(Error::Headers)?;
    *rest = after;
    Ok(u32::from_be_bytes(*number))
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Error> {
    let length = take_number(rest)? as usize;
    let (text, after) = rest.split_at_checked(length).ok_or(Error::Headers)?;
    *rest = after;
    std::str::from_utf8(text).map_err(|_| Error::Headers)
}

/// Writes the blocks of one direction, without compressing them.
#[derive(Debug, Default)]
pub(super) struct Writer {
    begun: bool,
}

impl Writer {
    /// The next block; together the headers must not be longer than 64 KiB.
    pub(super) fn write(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut text = Vec::new();
        text.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        for (name, value) in headers {
            put_text(&mut text, name);
            put_text(&mut text, value);
        }
        let mut block = Vec::new();
        if !self.begun {
            self.begun = true;
            block.extend_from_slice(&[0x78, HAS_DICTIONARY]);
            block.extend_from_slice(&adler32(&dictionary()).to_be_bytes());
        }
        block.extend(stored(&text));
        // As zlib does when it is told to flush: there are readers that hand nothing out before that.
        block.extend(stored(&[]));
        block
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::*;

    /// What zlib makes, with the dictionary, of two blocks in a row.
    const GOLDEN: [&str; 2] = [
        "78f9e3c6a7c202a6234650ca0a2e294a4dcc0d811425aca9a08006000000ffff",
        "02651c48d15c044ac64c1606e0040956082d73d880654e224305000000ffff",
    ];

    #[test]
    fn the_dictionary_is_the_protocols() {
        assert_eq!(dictionary().len(), 1423);
        assert_eq!(adler32(&dictionary()), 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_of_zlib_with_the_dictionary_are_read() {
        let mut reader = Reader::new();
        let first = reader.read(&hex::decode(GOLDEN[0]).unwrap()).unwrap();
        assert_eq!(first, [("streamtype".to_owned(), "error".to_owned())]);
        let second = reader.read(&hex::decode(GOLDEN[1]).unwrap()).unwrap();
        let expected = [("port", "80"), ("streamtype", "data"), ("streamtype", "x")];
        assert_eq!(second, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut zlib = Compress::new(Compression::best(), true);
        let mut block = Vec::with_capacity(1 << 20);
        let text = vec![0; 8 << 20];
        zlib.compress_vec(&text, &mut block, FlushCompress::Sync)
            .unwrap();
        assert!(block.len() < 64 << 10);
        assert!(Reader::new().read(&block).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            blocks in prop::collection::vec(prop::collection::vec(("[a-z]{1,9}", "[ -~]{0,40}"), 0..5), 1..5),
        ) {
            let (mut writer, mut reader) = (Writer::default(), Reader::new());
            for block in blocks {
                let pairs: Vec<(&str, &str)> = block.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
                prop_assert_eq!(reader.read(&writer.write(&pairs)).unwrap(), block);
            }
        }

        #[test]
        fn what_zlib_compresses_is_read(
            blocks in prop::collection::vec(prop::collection::vec(("[a-z]{1,9}", "[ -~]{0,400}"), 0..9), 1..5),
        ) {
            let mut zlib = Compress::new(Compression::default(), true);
            let mut reader = Reader::new();
            for block in blocks {
                let mut text = (block.len() as u32).to_be_bytes().to_vec();
                for (name, value) in &block {
                    put_text(&mut text, name);
                    put_text(&mut text, value);
                }
                let mut compressed = Vec::with_capacity(16 << 10);
                zlib.compress_vec(&text, &mut compressed, FlushCompress::Sync).unwrap();
                prop_assert_eq!(reader.read(&compressed).unwrap(), block);
            }
        }

        #[test]
        fn anything_can_arrive(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = Reader::new();
            let _ = reader.read(&bytes);
            let _ = parse(&bytes);
            let mut head = vec![0x78, 0x9c];
            head.extend(bytes);
            let _ = Reader::new().read(&head);
        }
    }
}
