//! What stands in braces in a feature: the scenario's own folders and names, and what is too long to write out.

use crate::stage::Stage;
use crate::world::World;
use dvs_trials::docker::DockerEngine;

/// Fills in `text`. Braces with anything else in them stay: payloads are full of them.
pub(crate) fn fill(world: &World, text: &str) -> String {
    let stage = Stage::get();
    let path = |path: &std::path::Path| path.display().to_string();
    [
        ("{root}", path(&world.mounts)),
        ("{sender}", world.sender_id()),
        ("{node}", world.launch.node.clone()),
        ("{state}", path(&world.launch.state)),
        ("{store}", stage.store.to_string()),
        ("{url}", world.store_url()),
        ("{config}", path(&world.configuration_file())),
        ("{broker port}", world.launch.broker.port().to_string()),
        ("{docker}", path(&DockerEngine::socket_in(&world.docker_folder()))),
        ("{broker}", world.launch.broker.to_string()),
        ("{129 characters}", "x".repeat(129)),
        ("{256 characters}", "x".repeat(256)),
        ("{5000 characters of path}", "/abcdefghi".repeat(500)),
        ("{2000 deep}", format!("{}1{}", "[".repeat(2000), "]".repeat(2000))),
        ("{64 KiB}", "x".repeat(64 << 10)),
        ("{3 MiB}", "x".repeat(3 << 20)),
        ("{NUL}", "\\u0000".to_owned()),
        ("{LF}", "\\n".to_owned()),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (word, value)| text.replace(word, &value))
}
