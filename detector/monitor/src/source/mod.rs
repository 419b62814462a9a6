//! Where the estate comes from, and who is asked to do something: one host's daemon, or a fleet.

mod fleet;
mod local;

use detector_core::api::{ApiError, Reply, Request};
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::estate::{News, Told};

pub use fleet::{Access, Fleet};
pub use local::Local;

/// Somebody who knows hosts and can be asked.
pub trait Source: Send + Sync {
    /// Tells everything that is known, and then what changes, for as long as somebody listens.
    fn follow(&self, told: mpsc::Sender<Told>) -> BoxFuture<'_, ()>;

    /// Has one host asked.
    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Reply, AskError>>;

    /// What is on record of a VM, beyond what was told; nothing where nobody keeps that.
    fn past<'a>(&'a self, _host: &'a str, _vm: Uuid) -> BoxFuture<'a, Vec<News>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    /// The fleet that it is, where it is one.
    fn fleet(&self) -> Option<&str>;
}

/// What one host is asked.
#[derive(Clone, Debug)]
pub struct Question {
    pub host: String,
    /// The person in whose name.
    pub who: String,
    /// Names it: where it is asked twice, it is done once.
    pub id: Uuid,
    pub request: Request,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("no host {0} is known")]
    NoHost(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("{}", .0.message)]
    Refused(ApiError),
    #[error("the answer cannot be read ({0}): it is of another release")]
    Unintelligible(String),
}
