//! Files that change all at once, as kubelet's atomic writer does it.
//!
//! The volume's real files are in a directory named by time (`..2026_01_02_15_04_05.123`); `..data` is a symbolic link to
//! it, and each name a container sees is a link through `..data`. Replacing that one link by a rename changes all
//! files for every reader in the same moment.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{File, FsGroup, ownership};
use crate::beneath;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes `dir` show exactly `files`. Changes nothing, and returns false, if it does already.
///
/// # Errors
/// What the kernel says; readers then still see the old files.
pub(super) fn write(
    dir: &Path,
    files: &BTreeMap<String, File>,
    fs_group: Option<FsGroup>,
) -> io::Result<bool> {
    let old = fs::read_link(dir.join(DATA))
        .ok()
        .map(|target| dir.join(target));
    if let Some(old) = &old
        && shows(old, files, fs_group)?
    {
        // A crash may have come between the switch and the cleaning up.
        clean_up(dir, old, files)?;
        return Ok(false);
    }
    let new = make_dir(dir)?;
    fill(&new, files)?;
    if let Some(fs_group) = fs_group {
        ownership::give(&new, fs_group.gid, ownership::Access::Read)?;
    }
    let name = new.file_name().unwrap_or_default();
    let temporary = dir.join(NEW_DATA);
    beneath::remove_tree(&temporary)?;
    symlink(name, &temporary)?;
    fs::rename(&temporary, dir.join(DATA))?;
    for top in top_names(files) {
        let link = dir.join(&top);
        let target = Path::new(DATA).join(&top);
        if fs::read_link(&link).is_ok_and(|found| found == target) {
            continue;
        }
        if fs::symlink_metadata(&link).is_ok_and(|found| !found.is_symlink()) {
            // Something is mounted there, and would hide the file anyway.
            continue;
        }
        beneath::remove_tree(&link)?;
        symlink(target, link)?;
    }
    clean_up(dir, &new, files)?;
    Ok(true)
}

/// True if the directory holds these files and nothing else.
fn shows(
    dir: &Path,
    files: &BTreeMap<String, File>,
    fs_group: Option<FsGroup>,
) -> io::Result<bool> {
    let mut found = BTreeSet::new();
    if list(dir, Path::new(""), &mut found).is_err() || found.len() != files.len() {
        return Ok(false);
    }
    for (path, file) in files {
        if !found.contains(Path::new(path)) {
            return Ok(false);
        }
        let place = dir.join(path);
        let meta = fs::symlink_metadata(&place)?;
        let group = fs_group.map_or(0, |group| group.gid);
        let mode = match fs_group {
            Some(_) => ownership::file_mode(file.mode, ownership::Access::Read),
            None => file.mode,
        };
        let same = meta.len() == file.data.len() as u64
            && meta.mode() & 0o7777 == mode
            && meta.uid() == file.owner.unwrap_or(0)
            && meta.gid() == group
            && fs::read(&place)? == file.data;
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All files beneath `dir`, as relative paths.
fn list(dir: &Path, beneath: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir.join(beneath))? {
        let entry = entry?;
        let path = beneath.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(dir, &path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

fn make_dir(dir: &Path) -> io::Result<PathBuf> {
    let stamp = Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    loop {
        let path = dir.join(format!("{stamp}.{}", rand::random::<u32>()));
        match DirBuilder::new().mode(0o755).create(&path) {
            Ok(()) => {
                // Whatever the umask of the process is.
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn fill(dir: &Path, files: &BTreeMap<String, File>) -> io::Result<()> {
    for (path, file) in files {
        let place = dir.join(path);
        let mut made = Vec::new();
        for parent in place
            .ancestors()
            .skip(1)
            .take_while(|parent| *parent != dir)
        {
            made.push(parent.to_owned());
        }
        for parent in made.iter().rev().filter(|parent| !parent.exists()) {
            fs::create_dir(parent)?;
            fs::set_permissions(parent, fs::Permissions::from_mode(0o755))?;
        }
        let mut open = fs::File::create_new(&place)?;
        open.write_all(&file.data)?;
        if file.owner.is_some() {
            std::os::unix::fs::fchown(&open, file.owner, None)?;
        }
        open.set_permissions(fs::Permissions::from_mode(file.mode))?;
    }
    Ok(())
}

/// The first part of each path: what is directly in the volume.
fn top_names(files: &BTreeMap<String, File>) -> BTreeSet<OsString> {
    let tops = files
        .keys()
        .map(|path| path.split('/').next().unwrap_or(path));
    tops.map(OsString::from).collect()
}

/// Removes names that are gone and directories of earlier times. What else there is are places for mounts within the
/// volume, which stay as long as it does.
fn clean_up(dir: &Path, current: &Path, files: &BTreeMap<String, File>) -> io::Result<()> {
    let kept = top_names(files);
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let is_kept = kept.contains(&name) || name == DATA || current.file_name() == Some(&name);
        let is_own = name.as_encoded_bytes().starts_with(b"..")
            || fs::read_link(dir.join(&name)).is_ok_and(|target| target.starts_with(DATA));
        if is_own && !is_kept {
            beneath::remove_tree(&dir.join(name))?;
        }
    }
    Ok(())
}
