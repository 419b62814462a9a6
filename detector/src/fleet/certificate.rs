//! Certificates for the connection to NATS: an authority of the fleet's own, and the server's.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// Everything in PEM.
pub(super) struct Certificates {
    pub(super) authority: String,
    pub(super) authority_key: String,
    pub(super) server: String,
    pub(super) server_key: String,
}

/// For how many years they are good. Who wants another span, or another authority, replaces the files.
const YEARS: i32 = 10;

impl Certificates {
    /// Makes them for a server of these names and addresses, from the first of January of `year` on.
    pub(super) fn make(fleet: &str, names: &[String], year: i32) -> Result<Self, rcgen::Error> {
        let dated = |mut params: CertificateParams, title: String| {
            params.not_before = date_time_ymd(year, 1, 1);
            params.not_after = date_time_ymd(year + YEARS, 1, 1);
            params.distinguished_name.push(DnType::CommonName, title);
            params
        };
        let mut root = dated(CertificateParams::new(Vec::new())?, format!("fleet {fleet}"));
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root_key = KeyPair::generate()?;
        let authority = root.self_signed(&root_key)?;

        let mut leaf = dated(CertificateParams::new(names)?, format!("NATS of fleet {fleet}"));
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf_key = KeyPair::generate()?;
        let server = leaf.signed_by(&leaf_key, &Issuer::from_params(&root, &root_key))?;
        Ok(Self {
            authority: authority.pem(),
            authority_key: root_key.serialize_pem(),
            server: server.pem(),
            server_key: leaf_key.serialize_pem(),
        })
    }
}
