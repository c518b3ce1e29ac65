//! Encrypted connections, by the system's TLS library.

use crate::tls_files::TlsFiles;
use dvs_domain::failure::{Failure, FailureCode};
use rumqttc::tokio_native_tls::native_tls::{Certificate, Identity, Protocol, TlsConnector};
use rumqttc::{TlsConfiguration, Transport};
use std::path::Path;

const PEM_END: &str = "-----END CERTIFICATE-----";

/// Reads the files. Given authorities replace the system's: nobody else can then vouch for a broker.
pub(crate) fn transport(files: &TlsFiles) -> Result<Transport, Failure> {
    let mut connector = TlsConnector::builder();
    connector.min_protocol_version(Some(Protocol::Tlsv12));
    if let Some(path) = &files.authorities {
        connector.disable_built_in_roots(true);
        for certificate in authorities(path)? {
            connector.add_root_certificate(certificate);
        }
    }
    if let Some((certificate, key)) = &files.identity {
        let identity = Identity::from_pkcs8(&read(certificate)?, &read(key)?).map_err(|error| {
            unusable(&format!(
                "`{}` and `{}` are no certificate and key",
                certificate.display(),
                key.display()
            ))
            .caused_by(error)
        })?;
        connector.identity(identity);
    }
    let connector = connector.build().map_err(|error| unusable("they do not fit").caused_by(error))?;
    Ok(Transport::tls_with_config(TlsConfiguration::NativeConnector(connector)))
}

/// Every certificate of a file: the library takes them one by one.
fn authorities(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let none = || unusable(&format!("`{}` holds no certificate in PEM", path.display()));
    let text = String::from_utf8(read(path)?).map_err(|error| none().caused_by(error))?;
    let certificates: Vec<Certificate> = text
        .split_inclusive(PEM_END)
        .filter(|part| part.ends_with(PEM_END))
        .map(|part| Certificate::from_pem(part.as_bytes()).map_err(|error| none().caused_by(error)))
        .collect::<Result<_, _>>()?;
    if certificates.is_empty() { Err(none()) } else { Ok(certificates) }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| unusable(&format!("`{}` cannot be read", path.display())).caused_by(error))
}

fn unusable(detail: &str) -> Failure {
    Failure::new(FailureCode::BadRequest, format!("the certificates cannot be used: {detail}")).with_hint(
        "give PEM files that the agent may read; the key as PKCS#8 (`openssl pkcs8 -topk8 -nocrypt`)",
    )
}
