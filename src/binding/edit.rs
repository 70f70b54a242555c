//! Who changed an object of ours. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text::{differences, without_bookkeeping};
use crate::k8s::ownership::last_editor;

/// What somebody changed in an object of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// Who: the field manager.
    pub manager: String,
    /// When it last wrote, RFC 3339; empty if the API server does not say.
    pub when: String,
    /// The fields that are not as wanted, as the API server writes them.
    pub fields: Vec<String>,
}

/// Who made a live object show as `view`, where that is not as wanted. Of a field that is gone nobody is on record; then
/// it is whoever last wrote anything in the specification.
pub fn edit(live: &Value, view: &Value, wanted: &Value) -> Option<Edit> {
    let fields = differences(view, &without_bookkeeping(wanted));
    let editors = fields.iter().filter_map(|field| last_editor(live, field));
    let newest = editors.max_by(|left, right| left.1.cmp(&right.1));
    let of_any = || last_editor(live, ".spec").filter(|_| !fields.is_empty());
    let (manager, when) = newest.or_else(of_any)?;
    Some(Edit {
        manager,
        when,
        fields,
    })
}
