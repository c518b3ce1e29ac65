//! A broker that says what Mosquitto never says: one prepared answer for each packet it gets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) struct FakeBroker {
    port: u16,
    task: JoinHandle<()>,
}

impl FakeBroker {
    /// Hangs up after the last answer, or waits until the client does.
    pub(crate) async fn that_answers(answers: Vec<Vec<u8>>, hangs_up: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            loop {
                if let Ok((client, _)) = listener.accept().await {
                    serve(client, &answers, hangs_up).await;
                }
            }
        });
        Self { port, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The packets that it gets are so small that each comes in one piece.
async fn serve(mut client: TcpStream, answers: &[Vec<u8>], hangs_up: bool) {
    let mut packet = [0; 4096];
    for answer in answers {
        match client.read(&mut packet).await {
            Ok(1..) if client.write_all(answer).await.is_ok() => {}
            _ => return,
        }
    }
    if !hangs_up {
        let _ = client.read(&mut packet).await;
    }
}
