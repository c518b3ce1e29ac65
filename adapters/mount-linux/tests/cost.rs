//! What a job costs where thousands of volumes are attached: nothing that grows with their number. A test of its own
//! program, for it counts what the whole process reads.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests may stop a test")]

mod support;

use dvs_domain::ports::{Detached, Mounter};
use dvs_mount_linux::LinuxMounter;
use std::fs;
use support::{Ground, can_run, not_run};

const ROUNDS: usize = 10;

#[tokio::test]
async fn real_no_job_reads_the_mount_table() {
    let test = "real_no_job_reads_the_mount_table";
    if !can_run(test, &[]) || !can_tell_single_mounts(test) {
        return;
    }
    let ground = Ground::new();
    let table = fs::read("/proc/self/mountinfo").unwrap().len();
    let [new, old] = ground.both_attachments();
    assert!(table < bytes_read_by_jobs(&ground, &old).await, "the way of older kernels reads it");
    let read = bytes_read_by_jobs(&ground, &new).await;
    assert!(read < table, "{read} bytes in {ROUNDS} rounds, and the table has {table}");
}

/// How much is read while a volume is guarded, attached, found attached, and detached, some times.
async fn bytes_read_by_jobs(ground: &Ground, mounter: &LinuxMounter) -> usize {
    let (source, place) = (ground.directory("one"), ground.at("a/b"));
    let before = bytes_read();
    for _ in 0..ROUNDS {
        let missing = mounter.survey(&place).await.unwrap().missing;
        mounter.guard(&place, &missing).await.unwrap();
        mounter.attach(&source, &place, &[]).await.unwrap();
        mounter.survey(&place).await.unwrap();
        mounter.attach(&source, &place, &[]).await.unwrap();
        assert_eq!(mounter.detach(&source, &place).await.unwrap(), Detached::Gone);
        mounter.remove_directories(&missing).await.unwrap();
    }
    let read = bytes_read() - before;
    fs::remove_dir_all(ground.path().join("outside/one")).unwrap();
    read
}

/// How much this process has read until now by system calls (proc_pid_io(5)).
fn bytes_read() -> usize {
    let counts = fs::read_to_string("/proc/self/io").unwrap();
    counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

fn can_tell_single_mounts(test: &str) -> bool {
    let system = rustix::system::uname();
    let release = system.release().to_str().unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    if version < (6, 13) {
        not_run(test, &format!("it needs Linux 6.13, and this is {release}"));
        return false;
    }
    true
}
