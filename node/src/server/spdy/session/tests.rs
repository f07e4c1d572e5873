//! A session against a client that writes frames by hand.
use tokio::io::DuplexStream;

use super::*;

struct Client {
    connection: DuplexStream,
    headers: headers::Writer,
    replies: headers::Reader,
}

impl Client {
    fn connect() -> (Self, Session) {
        let (connection, theirs) = tokio::io::duplex(64 << 10);
        let client = Self {
            connection,
            headers: headers::Writer::default(),
            replies: headers::Reader::new(),
        };
        (client, start(theirs, &CancellationToken::new()))
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.connection.write_all(bytes).await.unwrap();
    }

    async fn open(&mut self, number: u32, headers: &[(&str, &str)]) {
        let block = self.headers.write(headers);
        let mut frame = vec![0x80, 3, 0, 1, 0, 0];
        frame.extend((block.len() as u16 + 10).to_be_bytes());
        frame.extend(number.to_be_bytes());
        frame.extend([0; 6]);
        frame.extend(block);
        self.send(&frame).await;
    }

    /// The next frame that does not only tell of windows.
    async fn frame(&mut self) -> (Head, Vec<u8>) {
        loop {
            let (head, body) = self.any_frame().await;
            if !matches!(head, Head::Control { kind: 9, .. }) {
                return (head, body);
            }
        }
    }

    async fn any_frame(&mut self) -> (Head, Vec<u8>) {
        let mut head = [0; HEAD];
        self.connection.read_exact(&mut head).await.unwrap();
        let head = Head::parse(head).unwrap();
        let (Head::Data { length, .. } | Head::Control { length, .. }) = head;
        let mut body = vec![0; length];
        self.connection.read_exact(&mut body).await.unwrap();
        (head, body)
    }

    async fn reply(&mut self) -> u32 {
        let (Head::Control { kind: 2, .. }, body) = self.frame().await else {
            panic!("no reply")
        };
        self.replies.read(&body[4..]).unwrap();
        u32::from_be_bytes(*body.first_chunk().unwrap())
    }
}

#[tokio::test]
async fn streams_carry_bytes_both_ways_and_end() {
    let (mut client, mut session) = Client::connect();
    client.open(1, &[("streamtype", "error")]).await;
    client
        .open(3, &[("streamtype", "data"), ("port", "80")])
        .await;
    assert_eq!((client.reply().await, client.reply().await), (1, 3));
    let error = session.next().await.unwrap();
    let mut data = session.next().await.unwrap();
    assert_eq!(error.header("streamtype"), Some("error"));
    assert_eq!(data.header("port"), Some("80"));

    let text = vec![7; 100_000];
    let mut received = Vec::new();
    tokio::join!(
        async {
            client.send(&frame::data(3, true, text.len())).await;
            client.send(&text).await;
        },
        async {
            while let Some(bytes) = data.inlet.recv().await {
                received.extend_from_slice(&bytes);
            }
        }
    );
    assert!(received == text, "{} bytes", received.len());

    data.outlet.send("hello".into()).await.unwrap();
    data.outlet.end().await;
    let sent = Head::Data {
        stream: 3,
        last: false,
        length: 5,
    };
    assert_eq!(client.frame().await, (sent, b"hello".to_vec()));
    let (
        Head::Data {
            stream: 3,
            last: true,
            ..
        },
        _,
    ) = client.frame().await
    else {
        panic!("no end")
    };
    assert!(data.outlet.send("more".into()).await.is_err());
    let (closed, ()) = tokio::join!(client.frame(), async {
        drop(error);
        let _ = tokio::time::timeout(Duration::from_millis(50), session.close()).await;
    });
    assert!(matches!(closed.0, Head::Control { kind: 7, .. }));
}

#[tokio::test]
async fn pings_are_answered_and_resets_close() {
    let (mut client, mut session) = Client::connect();
    client.send(&frame::ping(1)).await;
    assert_eq!(client.frame().await.1, 1u32.to_be_bytes());
    client.open(1, &[]).await;
    client.reply().await;
    let mut stream = session.next().await.unwrap();
    client.send(&frame::reset(1, 5)).await;
    assert_eq!(stream.inlet.recv().await, None);
    stream.outlet.closed().await;
    assert!(stream.outlet.send("x".into()).await.is_err());
}

#[tokio::test]
async fn a_client_against_the_protocol_is_cut() {
    let http = b"\x80\x01GET / HTTP/1.1\r\n\r\n".to_vec();
    let again = [
        &frame::data(0, false, 0)[..],
        b"\x80\x03\0\x01\0\0\0\x0a\0\0\0\x02\0\0\0\0\0\0",
    ]
    .concat();
    for bytes in [http, again] {
        let (mut client, mut session) = Client::connect();
        client.send(&bytes).await;
        assert!(session.next().await.is_none());
        assert!(session.gone().is_cancelled());
    }
}

#[tokio::test]
async fn streams_are_bounded_and_ended_ones_make_room() {
    let (mut client, mut session) = Client::connect();
    let taker = tokio::spawn(async move {
        let mut streams = Vec::new();
        while streams.len() < MAX_STREAMS {
            streams.push(session.next().await.unwrap());
        }
        (session, streams)
    });
    let mut number = 1;
    for _ in 0..MAX_STREAMS {
        client.open(number, &[]).await;
        client.reply().await;
        number += 2;
    }
    let (_session, mut streams) = taker.await.unwrap();
    client.open(number, &[]).await;
    assert!(matches!(
        client.frame().await.0,
        Head::Control { kind: 3, .. }
    ));
    let ended = streams.pop().unwrap();
    ended.outlet.end().await;
    drop(ended);
    client.frame().await;
    client.open(number + 2, &[]).await;
    assert_eq!(client.reply().await, number + 2);
}

#[tokio::test]
async fn the_end_of_the_connection_is_noticed() {
    let (client, mut session) = Client::connect();
    drop(client);
    assert!(session.next().await.is_none());
    session.gone().cancelled().await;
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_no_other_up() {
    let (mut client, mut session) = Client::connect();
    for number in [1, 3] {
        client.open(number, &[]).await;
        client.reply().await;
    }
    let (_unread, mut other) = (session.next().await.unwrap(), session.next().await.unwrap());
    // Far more than a client should send that is told nothing.
    client.send(&frame::data(1, false, 3 << 20)).await;
    client.send(&vec![7; 3 << 20]).await;
    client.send(&frame::data(3, true, 5)).await;
    client.send(b"hello").await;
    assert_eq!(other.inlet.recv().await.unwrap(), "hello");
}

#[tokio::test]
async fn the_client_is_told_what_it_may_send_again() {
    let (mut client, mut session) = Client::connect();
    client.open(1, &[]).await;
    client.reply().await;
    let mut stream = session.next().await.unwrap();
    client.send(&frame::data(1, false, 40_000)).await;
    client.send(&vec![7; 40_000]).await;
    let told = async |client: &mut Client| {
        let (Head::Control { kind: 9, .. }, body) = client.any_frame().await else {
            panic!("nothing is told")
        };
        let number = |at: usize| u32::from_be_bytes(*body[at..].first_chunk().unwrap());
        (number(0), number(4))
    };
    // It has arrived, which matters for other streams, but was not read yet.
    assert_eq!(told(&mut client).await.0, 0);
    let mut count = 0;
    while count < 40_000 {
        count += stream.inlet.recv().await.unwrap().len();
    }
    let (number, bytes) = told(&mut client).await;
    assert!(number == 1 && bytes >= 32 << 10, "{number}: {bytes}");
}

#[tokio::test]
async fn a_client_that_says_so_gets_no_more_than_its_windows() {
    let (mut client, mut session) = Client::connect();
    // A window of 1,000 bytes for each stream.
    client
        .send(b"\x80\x03\0\x04\0\0\0\x0c\0\0\0\x01\0\0\0\x07\0\0\x03\xe8")
        .await;
    for number in [1, 3] {
        client.open(number, &[]).await;
        client.reply().await;
    }
    let (one, other) = (session.next().await.unwrap(), session.next().await.unwrap());
    let slow = tokio::spawn(async move { one.outlet.send(vec![7; 2500].into()).await });
    let length = async |client: &mut Client| match client.frame().await.0 {
        Head::Data { stream, length, .. } => (stream, length),
        Head::Control { kind, .. } => panic!("a frame of kind {kind}"),
    };
    assert_eq!(length(&mut client).await, (1, 1000));
    other.outlet.send("hello".into()).await.unwrap();
    assert_eq!(length(&mut client).await, (3, 5));
    client.send(&frame::window(1, 1200)).await;
    assert_eq!(length(&mut client).await, (1, 1200));
    assert!(!slow.is_finished());
    client.send(&frame::window(1, 5000)).await;
    assert_eq!(length(&mut client).await, (1, 300));
    slow.await.unwrap().unwrap();
    // What all streams may send together is used up by one of them.
    client.send(&frame::window(3, 1 << 20)).await;
    let much = tokio::spawn(async move { other.outlet.send(vec![7; 70_000].into()).await });
    let mut sent = 2505;
    while sent < 65_536 {
        sent += length(&mut client).await.1;
    }
    assert_eq!(sent, 65_536);
    assert!(!much.is_finished());
    client.send(&frame::window(0, 1 << 20)).await;
    while sent < 72_505 {
        sent += length(&mut client).await.1;
    }
    much.await.unwrap().unwrap();
}
