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

    async fn frame(&mut self) -> (Head, Vec<u8>) {
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
