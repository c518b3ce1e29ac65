//! Each step fails on demand: what it named, what is left, and that the same works afterwards. And what happens
//! between two steps: a directory that is moved away at the worst moment.

mod support;

#[cfg(not(feature = "failpoints"))]
#[test]
fn real_each_step_fails_on_demand() {
    use std::io::Write;
    let why = "built without the feature `failpoints`";
    writeln!(std::io::stderr(), "NOT RUN: real_each_step_fails_on_demand: {why}").unwrap();
}

#[cfg(feature = "failpoints")]
mod on_demand {
    use crate::support::{Ground, can_run, names_in};
    use dvs_domain::failure::FailureCode;
    use dvs_domain::ports::{Detached, Mounter, SourceKind};
    use dvs_domain::volume::FileSystem;
    use fail::FailScenario;
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    use std::fs;
    use std::os::unix::fs::symlink;

    /// What somebody else mounts at the worst moment.
    #[derive(Clone, Copy)]
    enum Meanwhile {
        Guard,
        Volume,
    }

    #[tokio::test]
    async fn real_a_step_of_attaching_that_fails_leaves_nothing() {
        if !can_run("real_a_step_of_attaching_that_fails_leaves_nothing", &["losetup", "mkfs.ext4"]) {
            return;
        }
        let scenario = FailScenario::setup();
        let ground = Ground::new();
        let attachments = ground.attachments();
        let (source, place) = (ground.device(FileSystem::Ext4), ground.at("a/b/c"));
        let missing = attachments.survey(&place).await.unwrap().missing;
        for (point, action, step) in [
            ("mount.directories", "return(no-space)", "make directories"),
            ("mount.directories", "2*off->return(no-space)", "make directories"),
            ("mount.mount", "return(no-space)", "mount"),
            ("mount.remove-lost-and-found", "return(no-space)", "remove lost+found"),
            ("mount.move", "return(no-space)", "move mount"),
        ] {
            fail::cfg(point, action).unwrap();
            let failure = attachments.attach(&source, &place, &missing).await.unwrap_err();
            assert_eq!(failure.code(), FailureCode::NoSpace, "{}", failure.chain());
            assert_eq!(failure.chain(), format!("step `{step}`: failed on demand"));
            ground.assert_nothing_left(&format!("{point} {action}"));
            fail::remove(point);

            attachments.attach(&source, &place, &missing).await.unwrap();
            assert_eq!(attachments.detach(&source, &place).await.unwrap(), Detached::Gone);
            attachments.remove_directories(&missing).await.unwrap();
            ground.assert_nothing_left(point);
        }
        scenario.teardown();
    }

    #[tokio::test]
    async fn real_a_step_of_detaching_that_fails_changes_nothing() {
        if !can_run("real_a_step_of_detaching_that_fails_changes_nothing", &["losetup", "mkfs.ext4"]) {
            return;
        }
        let scenario = FailScenario::setup();
        let ground = Ground::new();
        let attachments = ground.attachments();
        let (source, place) = (ground.device(FileSystem::Ext4), ground.at("a/b"));
        let missing = attachments.survey(&place).await.unwrap().missing;
        attachments.attach(&source, &place, &missing).await.unwrap();
        let mounted = ground.mount_at(&place);

        fail::cfg("mount.unmount", "return(busy)").unwrap();
        let failure = attachments.detach(&source, &place).await.unwrap_err();
        assert_eq!(failure.code(), FailureCode::Busy, "{}", failure.chain());
        assert_eq!(failure.chain(), "step `unmount`: failed on demand");
        assert_eq!(ground.mount_at(&place), mounted);
        fail::remove("mount.unmount");
        assert_eq!(attachments.detach(&source, &place).await.unwrap(), Detached::Gone);

        fail::cfg("mount.remove-directories", "1*off->return(internal)").unwrap();
        let failure = attachments.remove_directories(&missing).await.unwrap_err();
        assert_eq!(failure.chain(), "step `remove directories`: failed on demand");
        assert_eq!(names_in(&ground.root()), ["a"]);
        assert_eq!(names_in(&ground.root().join("a")), Vec::<String>::new(), "the innermost was first");
        fail::remove("mount.remove-directories");
        attachments.remove_directories(&missing).await.unwrap();
        ground.assert_nothing_left("afterwards");
        scenario.teardown();
    }

    #[tokio::test]
    async fn real_a_step_of_guarding_that_fails_leaves_nothing() {
        if !can_run("real_a_step_of_guarding_that_fails_leaves_nothing", &[]) {
            return;
        }
        let scenario = FailScenario::setup();
        let ground = Ground::new();
        let attachments = ground.attachments();
        let place = ground.at("a/b");
        let missing = attachments.survey(&place).await.unwrap().missing;
        for (point, action, step) in [
            ("mount.directories", "1*off->return(no-space)", "make directories"),
            ("mount.guard", "return(no-space)", "guard"),
            ("mount.move", "return(no-space)", "move mount"),
        ] {
            fail::cfg(point, action).unwrap();
            let failure = attachments.guard(&place, &missing).await.unwrap_err();
            assert_eq!(failure.code(), FailureCode::NoSpace, "{}", failure.chain());
            assert_eq!(failure.chain(), format!("step `{step}`: failed on demand"));
            ground.assert_nothing_left(&format!("{point} {action}"));
            fail::remove(point);

            attachments.guard(&place, &missing).await.unwrap();
            let guard = ground.mount_at(&place);
            fail::cfg("mount.unguard", "return(busy)").unwrap();
            let failure = attachments.unguard(&place).await.unwrap_err();
            assert_eq!(failure.chain(), "step `unguard`: failed on demand");
            assert_eq!(ground.mount_at(&place), guard);
            fail::remove("mount.unguard");
            attachments.unguard(&place).await.unwrap();
            attachments.remove_directories(&missing).await.unwrap();
            ground.assert_nothing_left(point);
        }
        scenario.teardown();
    }

    #[tokio::test]
    async fn real_a_volume_whose_guard_stays_is_shown_again() {
        if !can_run("real_a_volume_whose_guard_stays_is_shown_again", &["losetup", "mkfs.ext4"]) {
            return;
        }
        let scenario = FailScenario::setup();
        let ground = Ground::new();
        let attachments = ground.attachments();
        let (source, place) = (ground.device(FileSystem::Ext4), ground.at("a"));
        attachments.guard(&place, std::slice::from_ref(&place)).await.unwrap();
        let guard = ground.mount_at(&place);
        for point in ["mount.mount", "mount.remove-lost-and-found", "mount.move"] {
            fail::cfg(point, "return(damaged)").unwrap();
            attachments.attach(&source, &place, &[]).await.unwrap_err();
            assert_eq!(ground.mount_at(&place), guard, "{point}: the guard stays");
            fail::remove(point);
        }
        attachments.attach(&source, &place, &[]).await.unwrap();
        fail::cfg("mount.unguard", "return(busy)").unwrap();
        let failure = attachments.detach(&source, &place).await.unwrap_err();
        assert_eq!(failure.chain(), "step `unguard`: failed on demand");
        let mounts = ground.mounts();
        assert_eq!(mounts.len(), 2, "nothing has changed: {mounts:?}");

        fail::cfg("mount.mount", "return(damaged)").unwrap();
        let failure = attachments.detach(&source, &place).await.unwrap_err();
        assert_eq!(
            failure.chain(),
            "step `unguard`: failed on demand; undoing failed too: step `mount`: failed on demand"
        );
        assert_eq!(ground.mount_at(&place), guard, "at least nobody writes below");
        scenario.teardown();
    }

    #[tokio::test]
    async fn real_a_directory_moved_away_takes_no_mount_with_it() {
        if !can_run("real_a_directory_moved_away_takes_no_mount_with_it", &["losetup", "mkfs.ext4"]) {
            return;
        }
        let scenario = FailScenario::setup();
        let ground = Ground::new();
        let attachments = ground.attachments();
        let (source, place) = (ground.device(FileSystem::Ext4), ground.at("way/v"));
        let (way, away) = (ground.root().join("way"), ground.path().join("outside/way"));
        fs::create_dir(&way).unwrap();
        // Before the path is resolved again, and after it was, right before the mount is moved.
        for (point, put_link, code) in [
            ("mount.remove-lost-and-found", true, FailureCode::ForbiddenPath),
            ("mount.remove-lost-and-found", false, FailureCode::Conflict),
            ("mount.move", true, FailureCode::ForbiddenPath),
            ("mount.move", false, FailureCode::Conflict),
        ] {
            let (from, to) = (way.clone(), away.clone());
            fail::cfg_callback(point, move || {
                fs::rename(&from, &to).unwrap();
                if put_link {
                    symlink(&to, &from).unwrap();
                }
            })
            .unwrap();
            let failure =
                attachments.attach(&source, &place, std::slice::from_ref(&place)).await.unwrap_err();
            fail::remove(point);
            assert_eq!(failure.code(), code, "{}", failure.chain());
            assert!(failure.chain().starts_with("step `move mount`"), "{}", failure.chain());
            assert!(!failure.chain().contains("undoing"), "{}", failure.chain());
            assert_eq!(ground.mounts(), [], "{point}");
            assert_eq!(names_in(&away), Vec::<String>::new(), "what was made is removed where it is now");
            if put_link {
                fs::remove_file(&way).unwrap();
            }
            fs::rename(&away, &way).unwrap();
        }
        scenario.teardown();
    }

    #[tokio::test]
    async fn real_an_unmount_follows_no_link_to_a_foreign_mount() {
        if !can_run("real_an_unmount_follows_no_link_to_a_foreign_mount", &[]) {
            return;
        }
        let scenario = FailScenario::setup();
        let ground = Ground::new();
        let attachments = ground.attachments();
        let (source, place, foreign) = (ground.directory("one"), ground.at("v"), ground.at("foreign"));
        for folder in [&place, &foreign] {
            fs::create_dir(folder.as_str()).unwrap();
        }
        mount("theirs", foreign.as_str(), "tmpfs", MountFlags::empty(), None).unwrap();
        attachments.attach(&source, &place, &[]).await.unwrap();
        let (from, to) = (place.as_str().to_owned(), foreign.as_str().to_owned());
        fail::cfg_callback("mount.unmount", move || {
            unmount(&from, UnmountFlags::empty()).unwrap();
            fs::remove_dir(&from).unwrap();
            symlink(&to, &from).unwrap();
        })
        .unwrap();
        let failure = attachments.detach(&source, &place).await.unwrap_err();
        assert_eq!(failure.code(), FailureCode::ForbiddenPath, "{}", failure.chain());
        ground.mount_at(&foreign);
        scenario.teardown();
    }

    #[tokio::test]
    async fn real_what_is_mounted_over_a_new_mount_stays() {
        if !can_run("real_what_is_mounted_over_a_new_mount_stays", &["losetup", "mkfs.ext4"]) {
            return;
        }
        let scenario = FailScenario::setup();
        let ground = Ground::new();
        let attachments = ground.attachments();
        let (source, place) = (ground.device(FileSystem::Ext4), ground.at("v"));
        fs::create_dir(place.as_str()).unwrap();
        let target = place.as_str().to_owned();
        fail::cfg_callback("mount.moved", move || {
            mount("meanwhile", &target, "tmpfs", MountFlags::empty(), None).unwrap();
        })
        .unwrap();
        let failure = attachments.attach(&source, &place, &[]).await.unwrap_err();
        assert_eq!(failure.code(), FailureCode::Conflict, "{}", failure.chain());
        assert!(failure.chain().contains("something else lies over the new mount"), "{}", failure.chain());
        fail::remove("mount.moved");
        let refused = attachments.detach(&source, &place).await.unwrap_err();
        assert!(refused.chain().contains("meanwhile (tmpfs)"), "{}", refused.chain());
        assert_eq!(ground.mounts().len(), 2, "nothing can be unmounted below it");
        scenario.teardown();
    }

    #[tokio::test]
    async fn real_what_is_mounted_meanwhile_is_found() {
        if !can_run("real_what_is_mounted_meanwhile_is_found", &["losetup", "mkfs.ext4"]) {
            return;
        }
        let scenario = FailScenario::setup();
        let ground = Ground::new();
        let attachments = ground.attachments();
        let (source, place) = (ground.device(FileSystem::Ext4), ground.at("v"));
        fs::create_dir(place.as_str()).unwrap();
        let target = place.as_str().to_owned();
        fail::cfg_callback("mount.remove-lost-and-found", move || {
            mount("meanwhile", &target, "tmpfs", MountFlags::empty(), None).unwrap();
        })
        .unwrap();
        let failure = attachments.attach(&source, &place, &[]).await.unwrap_err();
        assert_eq!(failure.code(), FailureCode::Conflict, "{}", failure.chain());
        assert!(failure.chain().contains("meanwhile (tmpfs)"), "{}", failure.chain());
        ground.mount_at(&place);

        // A guard while a volume is made ready, a guard while a guard is, and a volume while a guard is.
        let place = ground.at("w");
        for (point, meanwhile, expected) in [
            ("mount.remove-lost-and-found", Meanwhile::Guard, Ok(2)),
            ("mount.guard", Meanwhile::Guard, Ok(1)),
            ("mount.guard", Meanwhile::Volume, Err(FailureCode::Conflict)),
        ] {
            fs::create_dir(place.as_str()).unwrap();
            let target = place.as_str().to_owned();
            let SourceKind::Device { path: device, .. } = source.kind.clone() else { unreachable!() };
            fail::cfg_callback(point, move || match meanwhile {
                Meanwhile::Guard => {
                    mount("dvs-guard", &target, "tmpfs", MountFlags::RDONLY, None).unwrap();
                }
                Meanwhile::Volume => {
                    mount(&device, &target, "ext4", MountFlags::empty(), None).unwrap();
                }
            })
            .unwrap();
            let outcome = match point {
                "mount.guard" => attachments.guard(&place, &[]).await,
                _ => attachments.attach(&source, &place, &[]).await,
            };
            fail::remove(point);
            let there = ground.mounts().into_iter().filter(|mounted| mounted.at.ends_with("w")).count();
            assert_eq!(outcome.map(|()| there).map_err(|failure| failure.code()), expected, "{point}");
            attachments.detach(&source, &place).await.unwrap();
            attachments.remove_directories(std::slice::from_ref(&place)).await.unwrap();
        }
        scenario.teardown();
    }
}
