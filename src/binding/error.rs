//! A failed step: which, and why.

use std::time::Duration;

use super::diagnose::Diagnosis;
use super::gateway::Problem;
use super::step::Step;
use super::world::ConnectError;
use crate::azure::ids::ClusterId;
use crate::k8s::ObjectRef;
use crate::{azure, k8s};

/// A step that did not come to its end. What was done before it is in the outcome beside this error.
#[derive(Clone, Debug)]
pub struct StepError {
    /// The cluster it was about.
    pub cluster: ClusterId,
    /// The step.
    pub step: Step,
    /// Why.
    pub cause: Cause,
}

/// Why a step failed.
#[derive(Clone, Debug)]
pub enum Cause {
    /// Azure said no, or nothing.
    Azure(azure::Error),
    /// The cluster said no, or nothing.
    Kubernetes(k8s::Error),
    /// There is no credential for the cluster's API, or none that can be used.
    Credential(ConnectError),
    /// A wait came to its deadline; what the evidence says about it.
    TimedOut {
        /// How long it waited.
        waited: Duration,
        /// What was waited for.
        what: String,
        /// What the evidence says.
        diagnosis: Diagnosis,
    },
    /// A handshake returned another certificate than the vault's, until the deadline.
    WrongCertificate {
        /// The host.
        host: String,
        /// The address that was asked.
        address: String,
        /// Subject of what it returned.
        subject: String,
        /// Thumbprint of what it returned.
        thumbprint: String,
        /// Thumbprint of the vault's certificate.
        wanted: String,
    },
    /// A Gateway's controller says why it does not serve the binding.
    EdgeRefuses {
        /// The Gateway.
        edge: ObjectRef,
        /// What it says.
        problems: Vec<Problem>,
    },
    /// The edge could not be asked, and it had to be.
    EdgeUnreachable {
        /// The host.
        host: String,
        /// The last reason.
        reason: String,
    },
    /// Something that all further steps depend on is not there, or could not be seen.
    Undecided {
        /// What.
        missing: String,
    },
    /// Terraform was asked to stop.
    Stopped,
}

impl Cause {
    /// Whether it is certain that nothing was sent.
    pub fn is_before_the_write(&self) -> bool {
        matches!(
            self,
            Self::Undecided { .. } | Self::Credential(_) | Self::Azure(azure::Error::NotReady { .. })
        )
    }
}

impl From<azure::Error> for Cause {
    fn from(error: azure::Error) -> Self {
        Self::Azure(error)
    }
}

impl From<ConnectError> for Cause {
    fn from(error: ConnectError) -> Self {
        Self::Credential(error)
    }
}

impl From<k8s::Error> for Cause {
    fn from(error: k8s::Error) -> Self {
        Self::Kubernetes(error)
    }
}

/// An error with what it comes from, outermost first; what only repeats the one before is left out.
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// What the cluster's API said, in its own words, with the operation.
pub fn kubernetes_said(error: &k8s::Error) -> String {
    let words = match error {
        k8s::Error::Settings { reason } => reason.clone(),
        k8s::Error::NotServed { message, .. } => format!("404 {message}"),
        k8s::Error::Forbidden { message, .. } => format!("403 {message}"),
        k8s::Error::Unauthorized { message, .. } => format!("401 {message}"),
        k8s::Error::Conflict { message, .. } => format!("409 {message}"),
        k8s::Error::Invalid { message, .. }
        | k8s::Error::Terminating { message, .. }
        | k8s::Error::Unexpected { message, .. } => message.clone(),
        k8s::Error::NamespaceMissing { .. } => String::new(),
        k8s::Error::Unreachable { source, .. } => causes(source.as_ref()),
    };
    if words.is_empty() {
        error.to_string()
    } else {
        format!("{error}: {words}")
    }
}
