//! The reader against archives of the `tar` crate, hand-made hostile headers, and noise.
use proptest::prelude::*;

use super::*;

fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut archive = Archive::new(bytes);
    let mut all = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let mut data = Vec::new();
        let mut buffer = [0; 100];
        loop {
            match archive.data(&mut buffer)? {
                0 => break,
                read => data.extend_from_slice(&buffer[..read]),
            }
        }
        all.push((entry, data));
    }
    Ok(all)
}

fn header(name: &str, kind: u8, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(9);
    header.set_cksum();
    header
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(BLOCK), 0);
    data
}

fn member(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
    [
        header(name, kind, data.len() as u64).as_bytes().as_slice(),
        &padded(data),
    ]
    .concat()
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length.to_string().len() + body != length {
        length += 1;
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

#[test]
fn pax_records_may_hold_newlines_and_override_the_header() {
    let capability = b"\x01\n\x00=\n 12";
    let records = [
        record("path", "é/long".as_bytes()),
        record("SCHILY.xattr.security.capability", capability),
        record("uid", b"4294967294"),
        record("mtime", b"-1.25"),
        record("size", b"3"),
        record("gid", b"1"),
        record("gid", b""),
    ]
    .concat();
    let archive = [
        member("x", b'x', &records),
        member("file", b'0', b"abc"),
        vec![0; 1024],
    ]
    .concat();
    let all = read_all(&archive).unwrap();
    let (entry, data) = &all[0];
    assert_eq!(entry.name, "é/long".as_bytes());
    assert_eq!(
        entry.xattrs,
        [(b"security.capability".to_vec(), capability.to_vec())]
    );
    assert_eq!(
        (entry.uid, entry.gid, entry.mtime),
        (4_294_967_294, 8, (-2, 750_000_000))
    );
    assert_eq!((data.as_slice(), entry.size), (b"abc".as_slice(), 3));
    assert_eq!(all.len(), 1);
}

#[test]
fn reads_all_three_pax_sparse_formats_and_the_old_one() {
    let expect = vec![
        Segment {
            offset: 2,
            length: 3,
        },
        Segment {
            offset: 1000,
            length: 2,
        },
    ];
    let common = |extra: Vec<u8>| [record("GNU.sparse.size", b"2000"), extra].concat();
    let zero_zero = common(
        [
            ("offset", "2"),
            ("numbytes", "3"),
            ("offset", "1000"),
            ("numbytes", "2"),
        ]
        .iter()
        .flat_map(|(key, value)| record(&format!("GNU.sparse.{key}"), value.as_bytes()))
        .collect(),
    );
    let zero_one = common(record("GNU.sparse.map", b"2,3,1000,2"));
    let one_zero = [
        record("GNU.sparse.major", b"1"),
        record("GNU.sparse.minor", b"0"),
        record("GNU.sparse.realsize", b"2000"),
        record("GNU.sparse.name", b"real"),
    ]
    .concat();
    let mapped = [padded(b"2\n2\n3\n1000\n2\n"), b"abcde".to_vec()].concat();
    let plain = b"abcde".to_vec();
    for (records, data, name) in [
        (zero_zero, &plain, "f"),
        (zero_one, &plain, "f"),
        (one_zero, &mapped, "real"),
    ] {
        let archive = [member("x", b'x', &records), member("f", b'0', data)].concat();
        let all = read_all(&archive).unwrap();
        let (entry, data) = &all[0];
        assert_eq!((entry.name.as_slice(), entry.size), (name.as_bytes(), 2000));
        assert_eq!(entry.segments, Some(expect.clone()));
        assert_eq!(data, b"abcde");
    }
    let mut old = tar::Header::new_gnu();
    old.set_path("f").unwrap();
    old.set_entry_type(tar::EntryType::GNUSparse);
    old.set_size(5);
    for (field, value) in old.as_mut_bytes()[386..]
        .chunks_mut(12)
        .zip([2_u64, 3, 1000, 2])
    {
        field.copy_from_slice(format!("{value:011o}\0").as_bytes());
    }
    old.as_mut_bytes()[483..495].copy_from_slice(format!("{:011o}\0", 2000).as_bytes());
    for (at, field) in [(100, 8), (108, 8), (116, 8), (136, 12)] {
        old.as_mut_bytes()[at..at + field].fill(0);
    }
    old.set_cksum();
    let archive = [old.as_bytes().as_slice(), &padded(b"abcde")].concat();
    let all = read_all(&archive).unwrap();
    assert_eq!(all[0].0.segments, Some(expect));
    assert_eq!(
        (all[0].0.size, all[0].1.as_slice()),
        (2000, b"abcde".as_slice())
    );
}

#[test]
fn hostile_headers_cost_nothing() {
    let mut huge_extension = header("x", b'x', 0);
    huge_extension.set_size(1 << 33);
    huge_extension.set_cksum();
    let error = read_all(huge_extension.as_bytes()).unwrap_err();
    assert!(
        matches!(
            error,
            TarError::Extension {
                size: 8_589_934_592,
                ..
            }
        ),
        "{error}"
    );

    for records in [
        b"99 a=b\n".to_vec(),
        b"0 a=b\n".to_vec(),
        b"6 ab\n".to_vec(),
        b"x".to_vec(),
        b"6 =ab\n".to_vec(),
        record("size", b"-1"),
        record("size", b"99999999999999999999"),
        record("path", b"a\0b"),
        record("uid", b"4294967296"),
        [
            record("GNU.sparse.size", b"2"),
            record("GNU.sparse.map", b"0,3"),
        ]
        .concat(),
        [
            record("GNU.sparse.size", b"9"),
            record("GNU.sparse.map", b"5,1,0,2"),
        ]
        .concat(),
        [
            record("GNU.sparse.size", b"9"),
            record("GNU.sparse.map", b"5"),
        ]
        .concat(),
    ] {
        let archive = [member("x", b'x', &records), member("f", b'0', b"abc")].concat();
        assert!(
            read_all(&archive).is_err(),
            "{:?}",
            String::from_utf8_lossy(&records)
        );
    }

    let file = member("f", b'0', &[7; 600]);
    assert!(read_all(&file[..700]).is_err(), "data cut off");
    assert!(read_all(&file[..300]).is_err(), "header cut off");
    assert_eq!(
        read_all(&file[..512 + 600]).unwrap().len(),
        1,
        "only padding cut off"
    );
    let mut damaged = file.clone();
    damaged[0] = b'g';
    assert!(read_all(&damaged).is_err(), "checksum");
    assert!(matches!(
        read_all(&member("f", b'Z', b"")),
        Err(TarError::Kind { kind: 'Z', .. })
    ));
}

#[test]
fn device_nodes_and_links_have_no_data_whatever_their_size_says() {
    let archive = [
        header("d", b'5', 700).as_bytes().as_slice(),
        &member("f", b'0', b"x"),
    ]
    .concat();
    let all = read_all(&archive).unwrap();
    assert_eq!(
        all.iter().map(|(entry, _)| entry.kind).collect::<Vec<_>>(),
        [Kind::Directory, Kind::File]
    );
}

proptest! {
    #[test]
    fn agrees_with_the_writer_of_the_tar_crate(
        members in proptest::collection::vec(("[a-zA-Z0-9 é]{1,60}(/[a-z.]{1,90}){0,4}", proptest::collection::vec(any::<u8>(), 0..1500), 0_u32..0o7777, any::<u32>()), 0..6),
    ) {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, data, mode, owner) in &members {
            prop_assume!(!name.split('/').any(|part| part == ".." || part == "."));
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(*mode);
            header.set_uid(u64::from(*owner));
            header.set_gid(3);
            header.set_mtime(12);
            builder.append_data(&mut header, name, data.as_slice()).unwrap();
        }
        let all = read_all(&builder.into_inner().unwrap()).unwrap();
        prop_assert_eq!(all.len(), members.len());
        for ((entry, read), (name, data, mode, owner)) in all.iter().zip(&members) {
            prop_assert_eq!(&entry.name, name.as_bytes());
            prop_assert_eq!(read, data);
            prop_assert_eq!((entry.mode, entry.uid, entry.mtime), (*mode, *owner, (12, 0)));
        }
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _either = read_all(&bytes);
    }

    #[test]
    fn noise_in_records_never_panics(bytes in "[0-9a-zA-Z.= \n,]{0,120}", data in proptest::collection::vec(any::<u8>(), 0..900)) {
        let archive = [member("x", b'x', bytes.as_bytes()), member("f", b'0', &data)].concat();
        let _either = read_all(&archive);
        let sparse = [record("GNU.sparse.major", b"1"), record("GNU.sparse.minor", b"0"), record("GNU.sparse.realsize", b"9000")].concat();
        let _either = read_all(&[member("x", b'x', &sparse), member("f", b'0', bytes.as_bytes())].concat());
    }
}
