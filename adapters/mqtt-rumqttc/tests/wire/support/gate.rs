//! A gate between the door and the broker: it can be held or shut, and notes who comes when.

use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Open,
    /// Connections stay, and nothing moves.
    Held,
    /// Connections are cut, and new ones too.
    Shut,
}

pub(crate) struct Gate {
    port: u16,
    mode: watch::Sender<Mode>,
    came: Arc<Mutex<Vec<Instant>>>,
    task: JoinHandle<()>,
}

impl Gate {
    pub(crate) async fn to(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, watched) = watch::channel(Mode::Open);
        let came = Arc::new(Mutex::new(Vec::new()));
        let counter = Arc::clone(&came);
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                counter.lock().unwrap().push(Instant::now());
                if *watched.borrow() != Mode::Shut {
                    tokio::spawn(carry(client, broker, watched.clone()));
                }
            }
        });
        Self { port, mode, came, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn open(&self) {
        self.mode.send_replace(Mode::Open);
    }

    pub(crate) fn hold(&self) {
        self.mode.send_replace(Mode::Held);
    }

    pub(crate) fn shut(&self) {
        self.mode.send_replace(Mode::Shut);
    }

    /// When connections were tried.
    pub(crate) fn came(&self) -> Vec<Instant> {
        self.came.lock().unwrap().clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, broker: u16, mut mode: watch::Receiver<Mode>) {
    let Ok(broker) = TcpStream::connect(("127.0.0.1", broker)).await else { return };
    client.set_nodelay(true).unwrap();
    broker.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let (there, back) = (mode.clone(), mode.clone());
    tokio::select! {
        () = copy(&mut from_client, &mut to_broker, there) => {}
        () = copy(&mut from_broker, &mut to_client, back) => {}
        _ = mode.wait_for(|mode| *mode == Mode::Shut) => {}
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut mode: watch::Receiver<Mode>,
) {
    let mut buffer = [0; 4096];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        if mode.wait_for(|mode| *mode == Mode::Open).await.is_err()
            || to.write_all(&buffer[..length]).await.is_err()
        {
            return;
        }
    }
}
