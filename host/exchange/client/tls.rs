//! TLS: which certificates the client trusts, and the handshake.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::cause;
use crate::exchange::failure::{ExchangeFailure, FailureCode};

/// Largest certificate file, in bytes: ten times the size of a system's store.
const CA_FILE_BYTES_MAX: u64 = 4 << 20;

/// Why a client cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A certificate file cannot be used.
    #[error("the certificates in {} cannot be used: {why}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The text cannot be a header.
    #[error("the user agent has a character that is not allowed in a header")]
    UserAgent,
}

impl ClientError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            ClientError::CaFile { .. } => {
                "ca-file names a file with certificates in PEM form, of at most 4 MiB"
            }
            ClientError::UserAgent => "write it in one line of ASCII",
        }
    }
}

/// Does TLS with servers that the system or one of the additional authorities trusts.
pub struct Tls {
    further: Vec<CertificateDer<'static>>,
    /// The system's authorities are read for the first connection: it takes some milliseconds.
    configs: OnceCell<Configs>,
}

/// Two protocol negotiations with the same authorities.
struct Configs {
    /// HTTP/2, otherwise HTTP/1.1.
    best: TlsConnector,
    /// Only HTTP/1.1, for CONNECT to a proxy.
    http1: TlsConnector,
}

impl Tls {
    /// Trust the authorities in these files in addition to the system's.
    pub fn new(ca_files: &[PathBuf]) -> Result<Tls, ClientError> {
        let mut further = Vec::new();
        for path in ca_files {
            let read = certificates(path);
            further.extend(read.map_err(|why| ClientError::CaFile {
                path: path.clone(),
                why,
            })?);
        }
        let configs = OnceCell::new();
        Ok(Tls { further, configs })
    }

    /// Do the TLS handshake with the server of this name, for HTTP/2 or HTTP/1.1.
    pub async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: T,
    ) -> Result<TlsStream<T>, ExchangeFailure> {
        let configs = self.configs().await?;
        connect(&configs.best, host, stream).await
    }

    /// Do the TLS handshake for HTTP/1.1.
    pub async fn connect_http1<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: T,
    ) -> Result<TlsStream<T>, ExchangeFailure> {
        let configs = self.configs().await?;
        connect(&configs.http1, host, stream).await
    }

    async fn configs(&self) -> Result<&Configs, ExchangeFailure> {
        let read = self.configs.get_or_try_init(|| async {
            let further = self.further.clone();
            let made = tokio::task::spawn_blocking(move || configs(further)).await;
            made.unwrap_or_else(|_| {
                let what = "reading the trusted certificates failed".to_owned();
                Err(FailureCode::InternalError(Some(what)).into())
            })
        });
        read.await
    }
}

async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
    connector: &TlsConnector,
    host: &str,
    stream: T,
) -> Result<TlsStream<T>, ExchangeFailure> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| FailureCode::HttpRequestUriInvalid)?;
    let connected = connector.connect(name, stream).await;
    connected.map_err(|error| cause::of_handshake(host, &error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if about.len() > CA_FILE_BYTES_MAX {
        return Err(format!("it has {} bytes", about.len()));
    }
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let read = read.map_err(|error| error.to_string())?;
    if read.is_empty() {
        return Err("there is none in it".to_owned());
    }
    let mut roots = RootCertStore::empty();
    for one in &read {
        let added = roots.add(one.clone());
        added.map_err(|error| error.to_string())?;
    }
    Ok(read)
}

/// How many authorities the system trusts, or why there is none.
pub fn trusted_authorities() -> Result<usize, String> {
    let of_system = rustls_native_certs::load_native_certs();
    match (of_system.certs.len(), of_system.errors.first()) {
        (0, Some(error)) => Err(error.to_string()),
        (0, None) => Err("there is no certificate file".to_owned()),
        (count, _) => Ok(count),
    }
}

fn configs(further: Vec<CertificateDer<'static>>) -> Result<Configs, ExchangeFailure> {
    let of_system = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(of_system.certs);
    roots.add_parsable_certificates(further);
    if roots.is_empty() {
        let why = of_system.errors.first();
        let why = why.map_or_else(String::new, |error| format!(" ({error})"));
        let what = format!(
            "this machine trusts no authority{why}: install ca-certificates, or name a file with ca-file"
        );
        return Err(ExchangeFailure::new(FailureCode::TlsCertificateError, what));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| FailureCode::InternalError(Some(error.to_string())))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let http1 = TlsConnector::from(Arc::new(config.clone()));
    config.alpn_protocols.insert(0, b"h2".to_vec());
    let best = TlsConnector::from(Arc::new(config));
    Ok(Configs { best, http1 })
}
