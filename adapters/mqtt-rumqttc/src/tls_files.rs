//! Which certificates an encrypted connection uses. Known in every build, so that the configuration is the same.

use std::path::PathBuf;

/// Certificates for encrypted connections, in PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may vouch for the broker; the system's authorities when absent.
    pub authorities: Option<PathBuf>,
    /// What the agent shows of itself: certificate (with its chain) and key (PKCS#8).
    pub identity: Option<(PathBuf, PathBuf)>,
}
