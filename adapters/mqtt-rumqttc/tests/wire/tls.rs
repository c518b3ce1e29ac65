//! Encrypted connections: the broker must be vouched for, and may want to know who comes.

use crate::support::{Mosquitto, TestIntake, away, config, connected};
use dvs_domain::ports::JobIntake;
use dvs_mqtt_rumqttc::{BrokerUrl, MqttConfig, MqttDoor, MqttHandle, TlsFiles};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Makes an authority, and what it vouches for: the broker at 127.0.0.1, and the agent.
fn make_certificates(folder: &Path) {
    let run = |arguments: &str| {
        let done = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(done.unwrap().success(), "openssl {arguments}");
    };
    for authority in ["ca", "other-ca"] {
        run(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={authority} \
             -keyout {authority}.key -out {authority}.pem"
        ));
    }
    for (name, subject) in [("broker", "127.0.0.1"), ("agent", "n1")] {
        std::fs::write(folder.join("extensions"), "subjectAltName = IP:127.0.0.1\n").unwrap();
        run(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={subject} -keyout {name}.key \
             -out {name}.csr"
        ));
        run(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions \
             -out {name}.pem"
        ));
    }
}

fn start(test: &str) -> Option<(tempfile::TempDir, Mosquitto)> {
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        eprintln!("NOT RUN: {test}: openssl is missing");
        return None;
    }
    let folder = tempfile::Builder::new().prefix("dvs-test-tls-").tempdir().unwrap();
    make_certificates(folder.path());
    let broker = Mosquitto::start_with(test, |_| {
        let file = |name: &str| folder.path().join(name).display().to_string();
        format!(
            "allow_anonymous true\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
            file("ca.pem"),
            file("broker.pem"),
            file("broker.key")
        )
    })?;
    Some((folder, broker))
}

fn over_tls(broker: &Mosquitto, folder: &Path, authority: &str, identity: bool) -> MqttConfig {
    let mut config = config(broker.port());
    config.access.broker = BrokerUrl::parse(&format!("mqtts://127.0.0.1:{}", broker.port())).unwrap();
    config.access.tls = TlsFiles {
        authorities: Some(folder.join(authority)),
        identity: identity.then(|| (folder.join("agent.pem"), folder.join("agent.key"))),
    };
    config
}

fn open(config: MqttConfig) -> MqttHandle {
    MqttDoor::start(config, TestIntake::open() as Arc<dyn JobIntake>).unwrap().1
}

#[tokio::test]
async fn real_encrypted_connections_work_and_both_sides_are_checked() {
    let test = "real_encrypted_connections_work_and_both_sides_are_checked";
    let Some((folder, broker)) = start(test) else { return };
    let folder = folder.path();
    connected(&open(over_tls(&broker, folder, "ca.pem", true))).await;
    // The agent does not trust a broker that only another authority would vouch for.
    away(&open(over_tls(&broker, folder, "other-ca.pem", true)), "certificate verify failed").await;
    // The broker does not let in who shows nothing.
    away(&open(over_tls(&broker, folder, "ca.pem", false)), "").await;
    // The certificate is for an address, not for this name.
    let mut other_name = over_tls(&broker, folder, "ca.pem", true);
    other_name.access.broker = BrokerUrl::parse(&format!("mqtts://localhost:{}", broker.port())).unwrap();
    away(&open(other_name), "certificate verify failed").await;
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_refused_at_start() {
    let folder = tempfile::Builder::new().prefix("dvs-test-tls-").tempdir().unwrap();
    std::fs::write(folder.path().join("empty.pem"), "nothing\n").unwrap();
    let mut config = config(1);
    config.access.broker = BrokerUrl::parse("mqtts://127.0.0.1:1").unwrap();
    for (file, words) in
        [("missing.pem", "missing.pem` cannot be read"), ("empty.pem", "holds no certificate")]
    {
        config.access.tls.authorities = Some(folder.path().join(file));
        let refused =
            MqttDoor::start(config.clone(), TestIntake::open() as Arc<dyn JobIntake>).err().unwrap();
        assert!(refused.chain().contains(words), "{}", refused.chain());
    }
}
