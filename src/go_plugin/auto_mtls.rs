//! Mutual TLS between exactly two processes: a certificate for one run, and trust in exactly the host's.
//!
//! The host passes its certificate in the environment and takes ours from the handshake line; neither touches a disk.
//! The host's is self-signed, says `CA:TRUE` and has a P-521 key. So the usual verifier refuses it (an authority is
//! no end entity) and only aws-lc-rs can check its signatures. What is wanted is simpler than a chain anyway: the very
//! same bytes, and proof that the peer holds the key.

use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme, server,
};
use tokio_rustls::TlsAcceptor;

/// Newer hosts insist on it.
const ALPN_HTTP2: &[u8] = b"h2";

/// The name hosts verify our certificate against, as a SAN; they ignore the common name.
const SERVER_NAME: &str = "localhost";

/// What one run needs to speak with its host.
pub(super) struct Tls {
    /// For every connection.
    pub(super) acceptor: TlsAcceptor,
    /// For the handshake line.
    pub(super) certificate: CertificateDer<'static>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// `PLUGIN_CLIENT_CERT` holds no PEM certificate.
    #[error("the host's certificate could not be read")]
    HostCertificateUnreadable(#[source] pem::Error),
    /// Making our own certificate failed.
    #[error("no certificate could be made")]
    CertificateNotMade(#[from] rcgen::Error),
    /// rustls refused what we made.
    #[error("the TLS server could not be set up")]
    ServerRefused(#[from] rustls::Error),
}

/// Makes a key and a certificate for this run and an acceptor that lets in the holder of `host_certificate` only.
pub(super) fn prepare(host_certificate: &str) -> Result<Tls, Error> {
    let host = CertificateDer::from_pem_slice(host_certificate.as_bytes())
        .map_err(Error::HostCertificateUnreadable)?;
    let (certificate, key) = certificate_for_one_run()?;
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let verifier = OnlyTheHost {
        host,
        crypto: Arc::clone(&crypto),
    };
    let mut config = ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(vec![certificate.clone()], key)?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    // The host dials once, so there is nothing to resume; and a resumed session would skip the verifier.
    config.session_storage = Arc::new(server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Tls {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        certificate,
    })
}

/// P-256: the cheapest key to make of those that every host accepts.
fn certificate_for_one_run() -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.self_signed(&key)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((certificate.der().clone(), key.into()))
}

/// Accepts one certificate, byte for byte, from whoever can sign with its key.
#[derive(Debug)]
struct OnlyTheHost {
    host: CertificateDer<'static>,
    crypto: Arc<CryptoProvider>,
}

impl ClientCertVerifier for OnlyTheHost {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match *end_entity == self.host {
            true => Ok(ClientCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}
