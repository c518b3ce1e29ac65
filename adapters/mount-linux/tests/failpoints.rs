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
    use dvs_domain::ports::{Attachments, Detached};
    use dvs_domain::volume::FileSystem;
    use fail::FailScenario;
    use rustix::mount::{MountFlags, mount};
    use std::fs;
    use std::os::unix::fs::symlink;

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
            ("mount.empty", "return(no-space)", "empty"),
            ("mount.show", "return(no-space)", "show"),
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
        // Before the path is walked anew, and after it was, right before the mount is shown.
        for (point, put_link, code) in [
            ("mount.empty", true, FailureCode::ForbiddenPath),
            ("mount.empty", false, FailureCode::Conflict),
            ("mount.show", true, FailureCode::ForbiddenPath),
            ("mount.show", false, FailureCode::Conflict),
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
            assert!(failure.chain().starts_with("step `show`"), "{}", failure.chain());
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
        fail::cfg_callback("mount.empty", move || {
            mount("meanwhile", &target, "tmpfs", MountFlags::empty(), None).unwrap();
        })
        .unwrap();
        let failure = attachments.attach(&source, &place, &[]).await.unwrap_err();
        assert_eq!(failure.code(), FailureCode::Conflict, "{}", failure.chain());
        assert!(failure.chain().contains("meanwhile (tmpfs)"), "{}", failure.chain());
        ground.mount_at(&place);
        scenario.teardown();
    }
}
