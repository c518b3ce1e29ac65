//! Who holds a volume is found and named, and who does not is not.

mod support;

use dvs_domain::failure::FailureCode::InUse;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::{Detached, Mounter, Source};
use dvs_domain::user::User;
use dvs_domain::volume::FileSystem;
use dvs_mount_linux::LinuxMounter;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Ground, can_run, run};
use tokio::sync::{Mutex, MutexGuard};

/// How long a child may take until it is what it is to be.
const CHILD_LIMIT: Duration = Duration::from_secs(10);

/// A new mount namespace copies every mount of the others' tests too.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A process that does nothing but hold something, until it is dropped.
struct Holder(Child);

impl Holder {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).spawn().expect("a program that starts"))
    }

    /// In a mount namespace of its own, which receives unmounts as `propagation` says.
    fn in_namespace(propagation: &str) -> Self {
        let holder = Self::start(Command::new("unshare").args([
            "--mount",
            "--propagation",
            propagation,
            "sleep",
            "600",
        ]));
        let begun = Instant::now();
        let name = format!("/proc/{}/comm", holder.0.id());
        while fs::read_to_string(&name).expect("it lives") != "sleep\n" {
            assert!(begun.elapsed() < CHILD_LIMIT, "it is still {:?}", fs::read_to_string(&name));
            std::thread::yield_now();
        }
        holder
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    fn process(&self) -> User {
        User::Process { id: self.id(), name: "sleep".to_owned() }
    }

    fn namespace(&self) -> User {
        User::Namespace { id: self.id(), name: "sleep".to_owned() }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("a child can be ended");
    }
}

/// A volume of this kind, attached.
struct Scene {
    ground: Ground,
    attachments: LinuxMounter,
    source: Source,
    place: MountPoint,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    async fn new(source: impl FnOnce(&Ground) -> Source) -> Self {
        let alone = ALONE.lock().await;
        let ground = Ground::new();
        let (attachments, source, place) = (ground.attachments(), source(&ground), ground.at("a"));
        let scene = Self { ground, attachments, source, place, _alone: alone };
        scene.attach().await;
        scene
    }

    async fn on(file_system: FileSystem) -> Self {
        Self::new(|ground| ground.device(file_system)).await
    }

    async fn attach(&self) {
        let missing = std::slice::from_ref(&self.place);
        self.attachments.attach(&self.source, &self.place, missing).await.expect("it is attached");
    }

    fn path(&self, below: &str) -> PathBuf {
        Path::new(self.place.as_str()).join(below)
    }

    /// Who is named. Another test of this host may have made a namespace meanwhile, which has a copy of every
    /// mount: only namespaces of `holders` are looked at.
    async fn named(&self, holders: &[&Holder]) -> Vec<User> {
        let ours = |user: &User| match user {
            User::Namespace { id, .. } => holders.iter().any(|holder| holder.id() == *id),
            _ => true,
        };
        self.attachments.holders_of(&self.source, &self.place).await.into_iter().filter(ours).collect()
    }

    async fn refused(&self) {
        let refused = self.attachments.detach(&self.source, &self.place).await.expect_err("it is in use");
        assert_eq!(refused.code(), InUse, "{}", refused.chain());
    }

    async fn detach(&self) {
        let detached = self.attachments.detach(&self.source, &self.place).await;
        assert_eq!(detached.expect("it is detached"), Detached::Gone);
    }
}

#[tokio::test]
async fn real_each_thing_that_a_process_holds_is_seen() {
    let test = "real_each_thing_that_a_process_holds_is_seen";
    if !can_run(test, &["losetup", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "sleep"]) {
        return;
    }
    for file_system in FileSystem::ALL {
        let scene = Scene::on(file_system).await;
        assert_eq!(scene.named(&[]).await, [], "{file_system}");
        let own = File::create(scene.path("own")).unwrap();
        assert_eq!(scene.named(&[]).await, [], "{file_system}: this process itself is not told");
        drop(own);
        fs::create_dir(scene.path("folder")).unwrap();
        fs::write(scene.path("deleted"), "").unwrap();
        fs::copy("/bin/sleep", scene.path("sleep")).unwrap();
        fs::copy(mapped_library(), scene.path("library.so")).unwrap();
        let sleep = || {
            let mut command = Command::new("sleep");
            command.arg("600");
            command
        };
        type Hold<'a> = (&'a str, Box<dyn Fn() -> Holder + 'a>);
        let holds: [Hold<'_>; 4] = [
            (
                "an open file",
                Box::new(|| {
                    let file = File::open(scene.path("deleted")).unwrap();
                    fs::remove_file(scene.path("deleted")).unwrap();
                    Holder::start(sleep().stdin(file))
                }),
            ),
            ("a working directory", Box::new(|| Holder::start(sleep().current_dir(scene.path("folder"))))),
            ("its program", Box::new(|| Holder::start(Command::new(scene.path("sleep")).arg("600")))),
            (
                "a mapped file",
                Box::new(|| {
                    let library = scene.path("library.so");
                    let holder = Holder::start(sleep().env("LD_PRELOAD", &library));
                    wait_until_mapped(&holder, &library);
                    holder
                }),
            ),
        ];
        for (what, hold) in holds {
            let holder = hold();
            assert_eq!(scene.named(&[]).await, [holder.process()], "{file_system}: {what}");
            scene.refused().await;
            assert_eq!(
                scene.named(&[]).await,
                [holder.process()],
                "{file_system}: {what}, after the refusal"
            );
            drop(holder);
            assert_eq!(scene.named(&[]).await, [], "{file_system}: {what}");
        }
        scene.detach().await;
        assert_eq!(scene.named(&[]).await, [], "{file_system}");
    }
}

#[tokio::test]
async fn real_mounts_inside_and_elsewhere_are_named() {
    if !can_run("real_mounts_inside_and_elsewhere_are_named", &["losetup", "mkfs.ext4", "mount", "umount"]) {
        return;
    }
    let scene = Scene::on(FileSystem::Ext4).await;
    let (inside, deeper, elsewhere) =
        (scene.path("in side"), scene.path("in side/deeper"), scene.ground.path().join("outside/part"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    // A neighbour whose path begins with the same letters.
    let neighbour = scene.ground.root().join("ab");
    fs::create_dir(&neighbour).unwrap();
    for place in [&neighbour, &inside] {
        run(Command::new("mount").args(["-t", "tmpfs", "dvs-test"]).arg(place));
    }
    fs::create_dir(&deeper).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "dvs-test"]).arg(&deeper));
    let at = |path: &Path| User::MountInside(path.to_str().unwrap().to_owned());
    assert_eq!(scene.named(&[]).await, [at(&inside), at(&deeper)]);
    scene.refused().await;
    run(Command::new("umount").arg(&deeper));
    run(Command::new("umount").arg(&inside));

    run(Command::new("mount").arg("--bind").arg(&inside).arg(&elsewhere));
    assert_eq!(scene.named(&[]).await, [at(&elsewhere)]);
    scene.detach().await;
    assert_eq!(scene.named(&[]).await, [at(&elsewhere)], "a part of the volume lives on");
    run(Command::new("umount").arg(&elsewhere));
    assert_eq!(scene.named(&[]).await, []);
}

#[tokio::test]
async fn real_a_namespace_that_keeps_the_volume_is_named() {
    let test = "real_a_namespace_that_keeps_the_volume_is_named";
    if !can_run(test, &["losetup", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "unshare"]) {
        return;
    }
    for file_system in FileSystem::ALL {
        let scene = Scene::on(file_system).await;
        let holder = Holder::in_namespace("private");
        assert_eq!(scene.named(&[&holder]).await, [holder.namespace()], "{file_system}: while mounted");
        scene.detach().await;
        assert_eq!(scene.named(&[&holder]).await, [holder.namespace()], "{file_system}: after the unmount");
        scene.attach().await;
        assert_eq!(scene.named(&[&holder]).await, [holder.namespace()], "{file_system}: mounted again");

        let process = Holder::start(Command::new("sleep").arg("600").current_dir(scene.path("")));
        assert_eq!(
            scene.named(&[&holder]).await,
            [holder.namespace(), process.process()],
            "{file_system}: what holds the mount itself is named too"
        );
        drop(process);
        drop(holder);
        scene.detach().await;
        assert_eq!(scene.named(&[]).await, [], "{file_system}");
    }
}

#[tokio::test]
async fn real_a_namespace_that_follows_is_not_named() {
    let test = "real_a_namespace_that_follows_is_not_named";
    if !can_run(test, &["losetup", "mkfs.ext4", "mkfs.btrfs", "unshare", "mount"]) {
        return;
    }
    for file_system in [FileSystem::Ext4, FileSystem::Btrfs] {
        let scene = Scene::on(file_system).await;
        scene.detach().await;
        let root = scene.ground.root();
        run(Command::new("mount").arg("--bind").arg(&root).arg(&root));
        run(Command::new("mount").arg("--make-shared").arg(&root));
        scene.attach().await;
        let followers = [Holder::in_namespace("slave"), Holder::in_namespace("shared")];
        let [slave, peer] = &followers;
        for follower in &followers {
            let table = fs::read_to_string(format!("/proc/{}/mountinfo", follower.id())).unwrap();
            assert!(table.contains(scene.place.as_str()), "it lists the volume");
        }
        assert_eq!(scene.named(&[slave, peer]).await, [], "{file_system}: while mounted");
        let keeper = Holder::in_namespace("private");
        let all = [slave, peer, &keeper];
        assert_eq!(scene.named(&all).await, [keeper.namespace()], "{file_system}: while mounted");
        scene.detach().await;
        assert_eq!(scene.named(&all).await, [keeper.namespace()], "{file_system}: after the unmount");
        drop(keeper);
        assert_eq!(scene.named(&[slave, peer]).await, [], "{file_system}");
    }
}

#[tokio::test]
async fn real_a_process_in_another_namespace_is_named_by_that() {
    if !can_run("real_a_process_in_another_namespace_is_named_by_that", &["losetup", "mkfs.btrfs", "unshare"])
    {
        return;
    }
    for file_system in [FileSystem::Ext4, FileSystem::Btrfs] {
        let scene = Scene::on(file_system).await;
        // Its working directory becomes that of its own copy.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", "cd \"$0\" && exec sleep 600"]);
        let holder = Holder::start(command.arg(scene.place.as_str()));
        let (begun, link) = (Instant::now(), format!("/proc/{}/exe", holder.id()));
        while !fs::read_link(&link).unwrap().ends_with("sleep") {
            assert!(begun.elapsed() < CHILD_LIMIT, "it is still {:?}", fs::read_link(&link));
            std::thread::yield_now();
        }
        assert_eq!(scene.named(&[&holder]).await, [holder.namespace()], "{file_system}: once for all in it");
        scene.detach().await;
        assert_eq!(scene.named(&[&holder]).await, [holder.namespace()], "{file_system}");
    }
}

#[tokio::test]
async fn real_what_was_unmounted_lazily_is_seen() {
    if !can_run("real_what_was_unmounted_lazily_is_seen", &["losetup", "mkfs.ext4", "umount"]) {
        return;
    }
    let scene = Scene::on(FileSystem::Ext4).await;
    fs::write(scene.path("file"), "").unwrap();
    let file = File::open(scene.path("file")).unwrap();
    let holder = Holder::start(Command::new("sleep").arg("600").stdin(file));
    run(Command::new("umount").arg("--lazy").arg(scene.place.as_str()));
    assert_eq!(scene.ground.mounts(), []);
    assert_eq!(scene.named(&[]).await, [holder.process()]);
    drop(holder);
    assert_eq!(scene.named(&[]).await, []);
}

#[tokio::test]
async fn real_who_is_in_a_directory_is_told_from_who_is_in_its_mount() {
    let test = "real_who_is_in_a_directory_is_told_from_who_is_in_its_mount";
    if !can_run(test, &["unshare"]) {
        return;
    }
    let scene = Scene::new(|ground| ground.directory("one")).await;
    let outside = scene.ground.path().join("outside/one");
    let beside = Holder::start(Command::new("sleep").arg("600").current_dir(&outside));
    assert_eq!(scene.named(&[&beside]).await, [], "it is not in the mount");
    let within = Holder::start(Command::new("sleep").arg("600").current_dir(scene.path("")));
    assert_eq!(scene.named(&[&beside]).await, [within.process()]);
    scene.refused().await;
    drop(within);
    let keeper = Holder::in_namespace("private");
    scene.detach().await;
    assert_eq!(scene.named(&[&beside, &keeper]).await, [keeper.namespace()]);
}

#[tokio::test]
async fn real_who_holds_the_guard_below_is_named() {
    if !can_run("real_who_holds_the_guard_below_is_named", &["losetup", "mkfs.ext4"]) {
        return;
    }
    let scene = Scene::on(FileSystem::Ext4).await;
    scene.detach().await;
    scene.attachments.guard(&scene.place, &[]).await.unwrap();
    let holder = Holder::start(Command::new("sleep").arg("600").current_dir(scene.path("")));
    scene.attach().await;
    scene.refused().await;
    assert_eq!(scene.named(&[]).await, [holder.process()]);
    drop(holder);
    scene.detach().await;
    assert_eq!(scene.ground.mounts(), []);
}

#[tokio::test]
async fn real_nothing_is_found_where_nothing_can_be_asked() {
    let ground = Ground::new();
    let attachments = ground.attachments();
    let gone = Source::new(dvs_domain::ports::SourceKind::Directory(ground.path().join("gone")));
    assert_eq!(attachments.holders_of(&gone, &ground.at("a")).await, []);
    let there = Source::new(dvs_domain::ports::SourceKind::Directory(ground.path().join("outside")));
    for place in [ground.at("a"), ground.at("a/b"), support::mount_point(ground.path())] {
        assert_eq!(attachments.holders_of(&there, &place).await, []);
    }
}

/// A library that every program can load.
fn mapped_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").expect("the mapped files");
    let library = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let mut libraries = library.filter(|path| path.contains("/libgcc_s") || path.contains("/libm"));
    libraries.next().expect("this program has a library mapped").into()
}

/// The loader maps it after the program was started.
fn wait_until_mapped(holder: &Holder, library: &Path) {
    let (begun, maps) = (Instant::now(), format!("/proc/{}/maps", holder.id()));
    let library = library.to_str().expect("a path of this test");
    while !fs::read_to_string(&maps).expect("it lives").contains(library) {
        assert!(begun.elapsed() < CHILD_LIMIT, "it has no `{library}`");
        std::thread::yield_now();
    }
}
