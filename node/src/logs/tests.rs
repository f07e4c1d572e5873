//! Reading and following real files, rotated as the shim does it.
use std::fs::{self, File};
use std::io::Write as _;
use std::time::Duration;

use futures::StreamExt as _;
use proptest::prelude::*;

use super::*;

struct Log {
    dir: tempfile::TempDir,
    file: File,
    written: i64,
    aside: u32,
}

impl Log {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("0.log")).unwrap();
        Self {
            dir,
            file,
            written: 0,
            aside: 0,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("0.log")
    }

    /// A line whose time is its number in seconds.
    fn write(&mut self, stream: &str, tag: &str, text: &str) {
        let time = Timestamp::from_second(self.written).unwrap();
        self.written += 1;
        writeln!(self.file, "{time} {stream} {tag} {text}").unwrap();
    }

    fn rotate(&mut self, keep: u32) {
        self.aside += 1;
        fs::rename(
            self.path(),
            self.path().with_extension(format!("log.{}", self.aside)),
        )
        .unwrap();
        if let Some(old) = self.aside.checked_sub(keep) {
            let _none_yet = fs::remove_file(self.path().with_extension(format!("log.{old}")));
        }
        self.file = File::create(self.path()).unwrap();
    }

    async fn read(&self, options: LogOptions) -> String {
        let ended = CancellationToken::new();
        collect(read(&self.path(), options, ended).await.unwrap()).await
    }
}

async fn collect(stream: impl Stream<Item = Result<Bytes, Error>>) -> String {
    let pieces: Vec<_> = stream.map(|piece| piece.unwrap()).collect().await;
    String::from_utf8(pieces.concat()).unwrap()
}

fn tail(lines: u64) -> LogOptions {
    LogOptions {
        tail_lines: Some(lines),
        ..LogOptions::default()
    }
}

#[tokio::test]
async fn a_last_line_without_its_end_stays_so() {
    let mut log = Log::new();
    log.write("stdout", "F", "whole");
    log.write("stdout", "P", "begun, ");
    log.write("stdout", "P", "DONE");
    assert_eq!(log.read(LogOptions::default()).await, "whole\nbegun, DONE");
    assert_eq!(log.read(tail(1)).await, "begun, DONE");
    assert_eq!(log.read(tail(2)).await, "whole\nbegun, DONE");
}

#[tokio::test]
async fn reads_across_rotated_files_with_every_option() {
    let mut log = Log::new();
    for number in 0..12 {
        log.write(
            if number % 2 == 0 { "stdout" } else { "stderr" },
            "F",
            &format!("line{number}"),
        );
        if number % 5 == 4 {
            log.rotate(9);
        }
    }
    writeln!(log.file, "not a log line").unwrap();
    let all: String = (0..12).map(|number| format!("line{number}\n")).collect();
    assert_eq!(log.read(LogOptions::default()).await, all);
    assert_eq!(
        log.read(tail(3)).await,
        "line10\nline11\n",
        "noise counts as a line to tail"
    );
    assert_eq!(log.read(tail(0)).await, "");
    assert_eq!(log.read(tail(99)).await, all);
    let since = LogOptions {
        since: Some(Timestamp::from_second(10).unwrap()),
        ..tail(99)
    };
    assert_eq!(log.read(since).await, "line10\nline11\n");
    let stream = LogOptions {
        stream: Some(LogStream::Stderr),
        ..tail(6)
    };
    assert_eq!(log.read(stream).await, "line7\nline9\nline11\n");
    let limit = LogOptions {
        limit_bytes: Some(8),
        ..LogOptions::default()
    };
    assert_eq!(log.read(limit).await, "line0\nli");
    let stamped = LogOptions {
        timestamps: true,
        limit_bytes: Some(37),
        ..tail(3)
    };
    assert_eq!(
        log.read(stamped).await,
        "1970-01-01T00:00:10.000000000Z line10"
    );
    let missing = read(
        &log.dir.path().join("1.log"),
        tail(1),
        CancellationToken::new(),
    )
    .await;
    assert!(matches!(missing.err(), Some(Error::NotFound { .. })));
}

#[tokio::test]
async fn the_parts_of_a_long_line_are_one_line() {
    let mut log = Log::new();
    log.write("stdout", "F", "before");
    log.write("stdout", "P", "one ");
    log.rotate(9);
    log.write("stdout", "P", "two ");
    log.write("stdout", "F", "three");
    log.write("stdout", "F", "after");
    assert_eq!(log.read(tail(2)).await, "one two three\nafter\n");
    let stamped = LogOptions {
        timestamps: true,
        ..tail(2)
    };
    let stamp = "1970-01-01T00:00:01.000000000Z";
    let last = "1970-01-01T00:00:04.000000000Z";
    assert_eq!(
        log.read(stamped).await,
        format!("{stamp} one two three\n{last} after\n")
    );
}

#[tokio::test]
async fn an_empty_log_is_empty() {
    let log = Log::new();
    assert_eq!(log.read(tail(5)).await, "");
    assert_eq!(log.read(LogOptions::default()).await, "");
}

#[tokio::test]
async fn follows_through_rotations_until_the_container_ends() {
    let mut log = Log::new();
    log.write("stdout", "F", "0");
    log.write("stdout", "F", "1");
    let ended = CancellationToken::new();
    let options = LogOptions {
        follow: true,
        ..tail(1)
    };
    let stream = read(&log.path(), options, ended.clone()).await.unwrap();
    let reader = tokio::spawn(collect(stream));
    for number in 2..300 {
        log.write("stdout", "F", &number.to_string());
        if number % 40 == 0 {
            log.rotate(9);
        }
        if number % 70 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    ended.cancel();
    let expected: String = (1..300).map(|number| format!("{number}\n")).collect();
    let read = tokio::time::timeout(Duration::from_secs(10), reader)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read, expected);
}

#[tokio::test]
async fn a_follower_gets_a_line_as_soon_as_it_is_written() {
    let mut log = Log::new();
    let ended = CancellationToken::new();
    let options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let stream = read(&log.path(), options, ended.clone()).await.unwrap();
    let mut stream = std::pin::pin!(stream);
    for text in ["a", "b"] {
        log.write("stdout", "F", text);
        let line = tokio::time::timeout(Duration::from_secs(5), stream.next())
            .await
            .unwrap();
        assert_eq!(line.unwrap().unwrap(), format!("{text}\n"));
    }
    write!(log.file, "1970-01-01T00:00:00Z stdout F half").unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(50), stream.next())
            .await
            .is_err()
    );
    writeln!(log.file, " whole").unwrap();
    let line = tokio::time::timeout(Duration::from_secs(5), stream.next())
        .await
        .unwrap();
    assert_eq!(line.unwrap().unwrap(), "half whole\n");
    // Rotation with one file only empties it.
    log.file.set_len(0).unwrap();
    log.file = File::options().append(true).open(log.path()).unwrap();
    log.write("stdout", "F", "c");
    let line = tokio::time::timeout(Duration::from_secs(5), stream.next())
        .await
        .unwrap();
    assert_eq!(line.unwrap().unwrap(), "c\n");
    fs::remove_dir_all(log.dir.path()).unwrap();
    ended.cancel();
    assert!(
        tokio::time::timeout(Duration::from_secs(5), stream.next())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_slow_follower_skips_what_rotation_removed() {
    let mut log = Log::new();
    log.write("stdout", "F", "first");
    let ended = CancellationToken::new();
    let options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let stream = read(&log.path(), options, ended.clone()).await.unwrap();
    for number in 0..6 {
        log.rotate(2);
        log.write("stdout", "F", &number.to_string());
    }
    ended.cancel();
    assert_eq!(collect(stream).await, "first\n3\n4\n5\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn tail_agrees_with_counting(
        lines in proptest::collection::vec(("[a-z]{0,300}", 0..9_u8, 0..7_u8), 0..400),
        count in 0..60_u64,
    ) {
        let mut log = Log::new();
        let mut whole: Vec<String> = vec![String::new()];
        for (text, partial, rotate) in &lines {
            let tag = if *partial == 0 { "P" } else { "F" };
            log.write("stdout", tag, text);
            whole.last_mut().unwrap().push_str(text);
            if tag == "F" {
                whole.last_mut().unwrap().push('\n');
                whole.push(String::new());
            }
            if *rotate == 0 {
                log.rotate(1000);
            }
        }
        // Parts at the very end are a line as well, one that has not ended.
        let ends_open = lines.last().is_some_and(|(_, partial, _)| *partial == 0);
        if !ends_open {
            whole.pop();
        }
        let from = whole.len().saturating_sub(usize::try_from(count).unwrap());
        let expected = whole[from..].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        prop_assert_eq!(runtime.block_on(log.read(tail(count))), expected);
    }
}
