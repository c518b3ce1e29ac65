//! The socket's server, in the agent.

use super::view::{self, FailureView, VolumeView};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use dvs_core::{AttachmentRegistry, StoreRegistry};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::{NodeId, StoreName, VolumeName};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use std::future::ready;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path as FilePath;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// How many volumes of a list are told before the client has taken the first.
const LISTED_AHEAD: usize = 16;

/// The state of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub process: u32,
    pub node: String,
    pub stores: Vec<String>,
    /// Whether the broker is connected ([`Status::CONNECTED`]), or why not.
    pub broker: String,
}

impl Status {
    /// The value of `broker` while it is connected.
    pub const CONNECTED: &str = "connected";

    /// Whether jobs arrive and answers leave.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.broker == Self::CONNECTED
    }
}

#[derive(Clone)]
struct Shown {
    stores: Arc<StoreRegistry>,
    node: Arc<AttachmentRegistry>,
    status: Arc<dyn Fn() -> Status + Send + Sync>,
}

/// Opens the socket at `path`, mode 0600, and answers on it until the runtime ends. A socket that a dead agent
/// left is replaced: the journal's lock has shown that no other agent runs here.
///
/// # Errors
/// `store-unavailable`, naming the path, when the folder cannot be made, or something that is no socket is there.
pub fn serve(
    path: &FilePath,
    stores: Arc<StoreRegistry>,
    node: Arc<AttachmentRegistry>,
    status: Arc<dyn Fn() -> Status + Send + Sync>,
) -> Result<(), Failure> {
    let listener = listen(path).map_err(|error| {
        Failure::new(
            FailureCode::StoreUnavailable,
            format!("cannot open the agent's socket `{}`", path.display()),
        )
        .caused_by(error)
        .with_hint("run as root, or name another folder with `--state DIR`")
    })?;
    let router = Router::new()
        .route("/v1/status", get(show_status))
        .route("/v1/volumes", get(list))
        .route("/v1/volumes/{name}", get(inspect_bare))
        .route("/v1/volumes/{store}/{name}", get(inspect))
        .route("/v1/volumes/{store}/{name}/release/{node}", post(release))
        .with_state(Shown { stores, node, status });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!("the agent's socket is closed: {error}");
        }
    });
    Ok(())
}

fn listen(path: &FilePath) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("something is there that is no socket")),
        Err(_) => {}
    }
    // Bound under a name of its own and renamed once it is closed to others: nobody can open it in between.
    let private = path.with_extension("new");
    let _absent = std::fs::remove_file(&private);
    let listener = UnixListener::bind(&private)?;
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&private, path)?;
    Ok(listener)
}

async fn show_status(State(shown): State<Shown>) -> Json<Status> {
    Json((shown.status)())
}

/// An array of all volumes, sent as they are found.
async fn list(State(shown): State<Shown>) -> Response {
    let (sender, mut receiver) = mpsc::channel(LISTED_AHEAD);
    tokio::spawn(async move {
        tokio::select! {
            () = view::each(&shown.stores, &shown.node, &sender) => {}
            () = sender.closed() => {} // The client has left.
        }
    });
    let views = stream::poll_fn(move |context| receiver.poll_recv(context)).enumerate();
    let elements = views.map(|(index, view)| {
        let element = serde_json::to_string(&view)?;
        Ok::<_, serde_json::Error>(if index == 0 { element } else { format!(",{element}") })
    });
    let bracket = |text: &str| stream::once(ready(Ok(text.to_owned())));
    let body = Body::from_stream(bracket("[").chain(elements).chain(bracket("]")));
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn inspect_bare(State(shown): State<Shown>, Path(name): Path<String>) -> Response {
    respond(find(&shown, None, &name).await)
}

async fn inspect(State(shown): State<Shown>, Path((store, name)): Path<(String, String)>) -> Response {
    respond(find(&shown, Some(&store), &name).await)
}

async fn find(shown: &Shown, store: Option<&str>, name: &str) -> Result<VolumeView, Failure> {
    let store = store.map(StoreName::new).transpose()?;
    let name = VolumeName::new(name)?;
    view::one(&shown.stores, &shown.node, store.as_ref(), &name)
        .await?
        .ok_or_else(|| Failure::new(FailureCode::NotFound, format!("no volume is called `{name}`")))
}

/// Removes the claims of a node that an operator knows to be dead.
async fn release(
    State(shown): State<Shown>,
    Path((store, name, node)): Path<(String, String, String)>,
) -> Response {
    respond(release_of(&shown, &store, &name, &node).await)
}

async fn release_of(
    shown: &Shown,
    store: &str,
    name: &str,
    node: &str,
) -> Result<Vec<view::ClaimView>, Failure> {
    let (store, name, node) = (StoreName::new(store)?, VolumeName::new(name)?, NodeId::new(node)?);
    let Some(shared) = shown.stores.get(&store)?.shared() else {
        return Err(Failure::new(
            FailureCode::Unsupported,
            format!("no other node uses the volumes of store `{store}`"),
        ));
    };
    let released = shared.release(&name, &node).await?;
    tracing::warn!(volume = %format!("{store}/{name}"), %node, claims = released.len(), "released by an operator");
    Ok(released.into_iter().map(view::ClaimView::from).collect())
}

fn respond<T: Serialize>(result: Result<T, Failure>) -> Response {
    match result {
        Ok(view) => Json(view).into_response(),
        Err(failure) => {
            let status = StatusCode::from_u16(failure.code().http_status())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, Json(FailureView::from(failure.report()))).into_response()
        }
    }
}
