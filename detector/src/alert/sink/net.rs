//! Connections to receivers: TCP, and TLS over it. Nothing listens.

use std::{fs, path::Path, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use super::{Failure, blocking};
use crate::config::alerts::{Address, Tls};

/// Where bytes go to a receiver, and come from.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection in the clear.
pub(super) async fn plain(address: &Address) -> Result<TcpStream, Failure> {
    let connected = TcpStream::connect((address.host.as_str(), address.port)).await;
    let stream = connected.map_err(|error| Failure::later("cannot connect", error))?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// A connection to a receiver that has shown who it is.
pub(super) async fn encrypted(address: &Address, tls: &Tls) -> Result<Box<dyn Stream>, Failure> {
    let files = tls.clone();
    let config = blocking(move || client(&files)).await?;
    let name = ServerName::try_from(address.host.clone())
        .map_err(|error| Failure::later("no name of a server", error))?;
    let stream = plain(address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    Ok(Box::new(stream.map_err(|error| Failure::later("no TLS", error))?))
}

/// Reads what the files hold. Blocks.
fn client(tls: &Tls) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(&tls.ca)?);
    if added == 0 {
        return Err(wrong(&tls.ca, "no certificate in it is understood"));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::later("TLS", error))?
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_slice(&contents(key)?)
        .map_err(|_| wrong(key, "expected a private key in PEM"))?;
    builder.with_client_auth_cert(chain, private).map_err(|error| wrong(certificate, error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let bytes = contents(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(wrong(path, "expected certificates in PEM")),
    }
}

/// What such a file holds.
pub(super) fn contents(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| wrong(path, error))
}

fn wrong(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::later(&path.display().to_string(), why)
}
