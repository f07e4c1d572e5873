//! Layers, honest and hostile, unpacked into real directories. They need root for owners and whiteouts.
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use ::tar::{Builder, EntryType, Header};

use super::*;

const BUDGET: Budget = Budget {
    bytes: 1 << 20,
    entries: 1000,
};

/// One entry of a test layer: type, name, link or data, mode.
type Member<'a> = (EntryType, &'a str, &'a str, u32);

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

fn layer(members: &[Member<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, content, mode) in members {
        let mut header = Header::new_gnu();
        // Written raw: the crate's own setters refuse hostile names.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(1000);
        header.set_gid(1001);
        header.set_mtime(1_000_000);
        let data: &[u8] = if *kind == FILE {
            content.as_bytes()
        } else {
            &[]
        };
        if *kind != FILE {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn try_unpack(bytes: &[u8], budget: Budget) -> (tempfile::TempDir, Result<Unpacked, UnpackError>) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let result = unpack(bytes, &root, &Digest::sha256(bytes), budget);
    (dir, result)
}

fn good(members: &[Member<'_>]) -> (tempfile::TempDir, Unpacked) {
    let (dir, result) = try_unpack(&layer(members), BUDGET);
    (dir, result.unwrap())
}

fn is_whiteout(path: &Path) -> bool {
    let meta = fs::symlink_metadata(path).unwrap();
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(path, whiteout::OPAQUE_XATTR, value.as_mut_slice()).is_ok()
}

#[test]
fn keeps_content_owner_mode_time_and_links() {
    let (dir, unpacked) = good(&[
        (DIR, "./", "", 0o755),
        (DIR, "bin/", "", 0o1777),
        (FILE, "bin/sh", "#!", 0o4755),
        (HARD, "bin/ash", "./bin/sh", 0),
        (LINK, "bin/link", "/etc/passwd", 0o777),
        (EntryType::Fifo, "pipe", "", 0o620),
        (EntryType::Char, "null", "", 0o666),
        (EntryType::Block, "disk", "", 0o666),
        (FILE, "/abs/olute", "x", 0o600),
    ]);
    let root = dir.path().join("root");
    let sh = fs::metadata(root.join("bin/sh")).unwrap();
    assert_eq!(
        (sh.uid(), sh.gid(), sh.mode() & 0o7777),
        (1000, 1001, 0o4755)
    );
    assert_eq!((sh.mtime(), sh.nlink()), (1_000_000, 2));
    let bin = fs::metadata(root.join("bin")).unwrap();
    assert_eq!((bin.mode() & 0o7777, bin.mtime()), (0o1777, 1_000_000));
    assert_eq!(
        fs::read_link(root.join("bin/link")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert_eq!(
        fs::symlink_metadata(root.join("bin/link")).unwrap().uid(),
        1000
    );
    let pipe = fs::metadata(root.join("pipe")).unwrap();
    assert!(pipe.file_type().is_fifo());
    assert_eq!(pipe.permissions().mode() & 0o7777, 0o620);
    assert!(
        !root.join("null").exists() && !root.join("disk").exists(),
        "devices are left out"
    );
    assert_eq!(fs::read(root.join("abs/olute")).unwrap(), b"x");
    assert_eq!(unpacked.implied, [Path::new("abs")]);
    assert_eq!((unpacked.bytes, unpacked.entries), (3, 9));
}

#[test]
fn reads_gzip_zstd_and_several_gzip_members() {
    use std::io::Write as _;
    let plain = layer(&[(FILE, "f", "hello", 0o644)]);
    let (first, second) = plain.split_at(700);
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    let skippable = [
        &[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3],
        zstd.as_slice(),
    ]
    .concat();
    for compressed in [
        gzip(&plain),
        [gzip(first), gzip(second)].concat(),
        zstd,
        skippable,
    ] {
        let dir = tempfile::tempdir().unwrap();
        unpack(
            compressed.as_slice(),
            dir.path(),
            &Digest::sha256(&plain),
            BUDGET,
        )
        .unwrap();
        assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"hello");
        let cut = &compressed[..compressed.len() - 5];
        let dir = tempfile::tempdir().unwrap();
        assert!(unpack(cut, dir.path(), &Digest::sha256(&plain), BUDGET).is_err());
    }
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let (dir, _) = good(&[
        (FILE, "gone/.wh.file", "", 0),
        (FILE, "opaque/.wh..wh..opq", "", 0),
        (FILE, "opaque/new", "x", 0o644),
        (FILE, "replaced/file", "x", 0o644),
        (FILE, ".wh.replaced", "", 0),
        (FILE, ".wh.reborn", "", 0),
        (DIR, "reborn/", "", 0o700),
        (FILE, ".wh.implied", "", 0),
        (FILE, "implied/file", "x", 0o644),
        (FILE, "kept", "x", 0o644),
        (FILE, ".wh.kept", "", 0),
        (FILE, ".wh..wh.plnk/1.2", "x", 0o644),
        (FILE, ".wh..wh.aufs", "x", 0o644),
    ]);
    let root = dir.path().join("root");
    assert!(is_whiteout(&root.join("gone/file")));
    for opaque in ["opaque", "replaced", "reborn", "implied"] {
        assert!(is_opaque(&root.join(opaque)), "{opaque}");
    }
    assert!(!is_opaque(&root.join("gone")));
    assert!(root.join("replaced/file").exists() && root.join("kept").is_file());
    let names: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().starts_with(".wh.")),
        "{names:?}"
    );
}

#[test]
fn hostile_entries_are_refused_or_stay_inside() {
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().to_str().unwrap();
    let refused: &[&[Member<'_>]] = &[
        &[(FILE, "../escape", "x", 0o644)],
        &[(FILE, "a/../../escape", "x", 0o644)],
        &[(FILE, "..", "x", 0o644)],
        &[(FILE, "./", "x", 0o644)],
        &[(HARD, "h", "../../etc/passwd", 0)],
        &[(DIR, "d", "", 0o755), (HARD, "h", "d", 0)],
        &[(HARD, "h", "h", 0)],
        &[(LINK, "l", "", 0)],
        &[(FILE, ".wh.", "", 0)],
        &[(FILE, "a/.wh...", "", 0)],
        &[(FILE, ".wh.w", "", 0), (HARD, "h", "w", 0)],
        &[
            (LINK, "a", "b", 0),
            (LINK, "b", "a", 0),
            (FILE, "a/x", "x", 0o644),
        ],
        &[(FILE, "f", "x", 0o644), (FILE, "f/x", "x", 0o644)],
    ];
    for members in refused {
        let (_dir, result) = try_unpack(&layer(members), BUDGET);
        assert!(result.is_err(), "{members:?}");
    }

    let (dir, unpacked) = good(&[
        (LINK, "out", outside, 0),
        (FILE, "out/through", "x", 0o644),
        (LINK, "up", "../../../../../..", 0),
        (FILE, "up/top", "x", 0o644),
        (LINK, "leaf", &format!("{outside}/leaf"), 0),
        (FILE, "leaf", "x", 0o644),
        (HARD, "hard", &format!("{outside}/nothing"), 0),
        (DIR, "out", "", 0o755),
    ]);
    let root = dir.path().join("root");
    assert_eq!(
        fs::read_dir(outside).unwrap().count(),
        0,
        "nothing outside was touched"
    );
    assert!(root.join(format!(".{outside}/through")).is_file());
    assert!(root.join("top").is_file());
    assert!(fs::symlink_metadata(root.join("leaf")).unwrap().is_file());
    assert!(fs::symlink_metadata(root.join("out")).unwrap().is_dir());
    let missing = adopt(&root, &unpacked, &[]).unwrap_err();
    assert!(matches!(missing, UnpackError::Link { .. }), "{missing}");
}

#[test]
fn trusted_attributes_of_layers_are_dropped() {
    let mut builder = Builder::new(Vec::new());
    let attributes: [(&str, &[u8]); 3] = [
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.mine", b"a\nb"),
    ];
    builder.append_pax_extensions(attributes).unwrap();
    let mut header = Header::new_ustar();
    header.set_entry_type(DIR);
    header.set_mode(0o755);
    builder
        .append_data(&mut header, "d", std::io::empty())
        .unwrap();
    let (dir, result) = try_unpack(&builder.into_inner().unwrap(), BUDGET);
    result.unwrap();
    let mut names = vec![0; 1000];
    let path = dir.path().join("root/d");
    let length = rustix::fs::llistxattr(&path, names.as_mut_slice()).unwrap();
    assert_eq!(String::from_utf8_lossy(&names[..length]), "user.mine\0");
}

#[test]
fn bombs_end_at_the_limits() {
    let many: Vec<Member<'_>> = (0..20).map(|_| (FILE, "f", "x", 0o644)).collect();
    let few = Budget {
        bytes: 1 << 20,
        entries: 19,
    };
    let (_dir, result) = try_unpack(&layer(&many), few);
    assert!(
        matches!(result, Err(UnpackError::TooMany { limit: 19 })),
        "{result:?}"
    );

    let small = Budget {
        bytes: 10,
        entries: 100,
    };
    let (_dir, result) = try_unpack(&layer(&[(FILE, "f", "12345678901", 0o644)]), small);
    assert!(
        matches!(result, Err(UnpackError::TooLarge { limit: 10 })),
        "{result:?}"
    );

    let zeros = zstd::encode_all(std::io::repeat(0).take(1 << 26), 1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let result = unpack(zeros.as_slice(), dir.path(), &Digest::sha256(b""), small);
    assert!(
        matches!(result, Err(UnpackError::Archive(TarError::Read(_)))),
        "{result:?}"
    );

    let honest = layer(&[(FILE, "f", "x", 0o644)]);
    let dir = tempfile::tempdir().unwrap();
    let result = unpack(
        honest.as_slice(),
        dir.path(),
        &Digest::sha256(b"other"),
        BUDGET,
    );
    assert!(
        matches!(result, Err(UnpackError::DiffId { .. })),
        "{result:?}"
    );
}

#[test]
fn takes_from_below_what_only_lower_layers_know() {
    let (below, _) = good(&[
        (DIR, "./", "", 0o711),
        (DIR, "tmp/", "", 0o1777),
        (FILE, "tmp/tool", "tool", 0o4755),
        (DIR, "tmp/sub/", "", 0o700),
        (LINK, "sym", "tmp", 0),
    ]);
    let (dir, unpacked) = good(&[
        (FILE, "tmp/sub/new/file", "x", 0o644),
        (HARD, "a", "tmp/tool", 0),
        (HARD, "b", "sym/tool", 0),
        (HARD, "c", "tmp/tool", 0),
        (HARD, "s", "sym", 0),
    ]);
    assert_eq!(unpacked.implied.len(), 4);
    let root = dir.path().join("root");
    let added = adopt(&root, &unpacked, &[below.path().join("root")]).unwrap();
    assert_eq!(added, 8);
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
    assert_eq!(
        (mode(""), mode("tmp"), mode("tmp/sub")),
        (0o711, 0o1777, 0o700)
    );
    assert_eq!((mode("tmp/sub/new"), mode("a")), (0o755, 0o4755));
    let meta = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
    assert_eq!((meta("tmp").uid(), meta("a").uid()), (1000, 1000));
    assert_eq!(meta("a").ino(), meta("c").ino());
    assert_eq!(fs::read_link(root.join("s")).unwrap(), Path::new("tmp"));
}
