//! Replacing files: on full disks, over mounts, and with whatever may be in the way.

use super::*;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

fn replace(path: &Path, text: &str) -> io::Result<()> {
    stage(path, text, &Access::default())?.commit()
}

#[test]
fn a_replaced_file_keeps_its_mode_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.cfg");
    replace(&path, "one").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, MODE);
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    replace(&path, "two").unwrap();
    assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_mode_that_is_asked_for_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.cfg");
    let access = Access { mode: Some(0o640), ..Access::default() };
    stage(&path, "one", &access).unwrap().commit().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
}

// Only root may give files away.
#[test]
fn the_owner_and_the_group_that_are_asked_for_win_and_else_the_old_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.cfg");
    let owner = || {
        let file = std::fs::metadata(&path).unwrap();
        (file.uid(), file.gid(), file.mode() & 0o7777)
    };
    let access = Access { mode: Some(0o2640), uid: Some(12_345), gid: Some(54_321) };
    stage(&path, "one", &access).unwrap().commit().unwrap();
    assert_eq!(owner(), (12_345, 54_321, 0o2640));
    replace(&path, "two").unwrap();
    assert_eq!(owner(), (12_345, 54_321, 0o2640));
    let nobody = Access { gid: Some(54_322), ..Access::default() };
    stage(&path, "three", &nobody).unwrap().commit().unwrap();
    assert_eq!(
        (owner(), read(&path).unwrap().unwrap().as_str()),
        ((12_345, 54_322, 0o2640), "three")
    );
}

// As a container has a file that is mounted into it. The mount is in this thread's own namespace and goes with it.
#[test]
fn a_destination_that_is_a_mount_point_is_written_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.cfg");
    replace(&path, "a longer text").unwrap();
    let (before, seen) = (std::fs::metadata(&path).unwrap().ino(), path.clone());
    let mounted = std::thread::spawn(move || {
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some(&path), &path, none, MsFlags::MS_BIND, none).unwrap();
        replace(&path, "short").unwrap();
        assert!(replace(&path, "short").is_ok(), "and once more");
    });
    mounted.join().unwrap();
    assert_eq!(read(&seen).unwrap().as_deref(), Some("short"));
    assert_eq!(std::fs::metadata(&seen).unwrap().ino(), before, "it is the same file");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

// As above, but the folder around the file takes nothing.
#[test]
fn a_file_that_is_mounted_into_a_read_only_folder_is_written_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let [own, conf] = ["own", "conf"].map(|name| folder.path().join(name));
    let path = conf.join("a.cfg");
    std::fs::create_dir(&conf).unwrap();
    for file in [&own, &path] {
        std::fs::write(file, "a longer text").unwrap();
    }
    let seen = own.clone();
    let mounted = std::thread::spawn(move || {
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some(&conf), &conf, none, MsFlags::MS_BIND, none).unwrap();
        mount(Some(&own), &path, none, MsFlags::MS_BIND, none).unwrap();
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &conf, none, read_only, none).unwrap();
        replace(&path, "short").unwrap();
        let kept = stage(&path, "bad", &Access::default()).unwrap().reject().unwrap();
        assert_eq!(read(&kept).unwrap().as_deref(), Some("bad"));
        std::fs::remove_file(kept).unwrap();
        assert!(replace(&conf.join("other"), "text").is_err(), "nothing else is written");
    });
    mounted.join().unwrap();
    assert_eq!(read(&seen).unwrap().as_deref(), Some("short"));
}

#[test]
fn the_same_failure_is_the_same_message() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/a.cfg");
    let failure = || replace(&path, "one").unwrap_err().to_string();
    assert_eq!(failure(), failure());
    assert!(failure().starts_with("No such file or directory"), "{}", failure());
}

#[test]
fn a_staged_file_that_is_dropped_leaves_the_destination_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.cfg");
    replace(&path, "one").unwrap();
    drop(stage(&path, "two", &Access::default()).unwrap());
    assert_eq!(read(&path).unwrap().as_deref(), Some("one"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_rejected_text_is_kept_beside_the_destination() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.cfg");
    let kept = stage(&path, "bad", &Access::default()).unwrap().reject().unwrap();
    assert_eq!(kept, folder.path().join("a.cfg.rejected"));
    assert_eq!(read(&kept).unwrap().as_deref(), Some("bad"));
    assert_eq!(read(&path).unwrap(), None);
}
