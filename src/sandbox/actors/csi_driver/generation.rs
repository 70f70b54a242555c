//! The driver's generations, which behave differently in ways a user notices.

/// Who rotates, and what happens to a Secret that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox::actors) enum Generation {
    /// Up to 1.5: a loop of the driver's own rotates; a Secret that exists is left alone.
    Loop,
    /// 1.6.0: the kubelet asks again and again; a Secret is written as a whole each time.
    Overwriting,
    /// From 1.6.1 on: the same, and a Secret's data is changed only where it differs.
    Patching,
}

impl Generation {
    /// By the version of the driver, `1.6.0`.
    pub(in crate::sandbox::actors) fn of(version: &str) -> Self {
        match version {
            "1.6.0" => Self::Overwriting,
            version if version.starts_with("1.6.") => Self::Patching,
            _ => Self::Loop,
        }
    }

    /// Whether the kubelet has to ask again for what is mounted already.
    pub(in crate::sandbox::actors) fn is_republished(self) -> bool {
        self != Self::Loop
    }
}
