//! Who owns which fields: `metadata.managedFields`, read, changed and written.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fields::{Fields, compare};
use super::schema::Type;
use super::store::{metadata_mut, unset_meta};

/// One owner. Appliers are the same owner in every version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub(super) manager: String,
    pub(super) applies: bool,
    /// Empty for appliers.
    pub(super) api_version: String,
    pub(super) subresource: String,
}

/// What an owner owns.
#[derive(Clone, Debug)]
pub(super) struct Owned {
    pub(super) fields: Fields,
    pub(super) api_version: String,
    pub(super) time: Option<String>,
}

/// All owners of an object.
pub(super) type Owners = BTreeMap<Owner, Owned>;

/// The members that nobody owns.
const NOBODYS: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "deletionTimestamp"],
    &["metadata", "deletionGracePeriodSeconds"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// Who writes, and through what.
pub(super) struct Writer<'a> {
    pub(super) manager: &'a str,
    pub(super) api_version: &'a str,
    pub(super) subresource: &'a str,
    /// Now, as Kubernetes writes it.
    pub(super) now: &'a str,
    /// Whether status is written through its own subresource only.
    pub(super) status_apart: bool,
}

impl Writer<'_> {
    /// This writer's identity.
    pub(super) fn owner(&self, applies: bool) -> Owner {
        Owner {
            manager: self.manager.to_owned(),
            applies,
            api_version: if applies {
                String::new()
            } else {
                self.api_version.to_owned()
            },
            subresource: self.subresource.to_owned(),
        }
    }

    /// Only the fields that this way of writing can change.
    pub(super) fn within_reach(&self, fields: &Fields) -> Fields {
        let mut fields = fields.without(NOBODYS);
        if self.subresource == "status" {
            fields = fields.only(&["status"]);
        } else if self.status_apart {
            fields = fields.without(&[&["status"]]);
        }
        fields
    }
}

/// Reads an object's owners.
pub(super) fn owners(object: &Value) -> Owners {
    let entries = object
        .get("metadata")
        .and_then(|metadata| metadata.get("managedFields"));
    let mut owners = Owners::new();
    for entry in entries.and_then(Value::as_array).into_iter().flatten() {
        let word = |name: &str| {
            entry
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let applies = word("operation") == "Apply";
        if word("operation").is_empty() {
            continue;
        }
        let api_version = word("apiVersion");
        let owner = Owner {
            manager: word("manager"),
            applies,
            api_version: if applies {
                String::new()
            } else {
                api_version.clone()
            },
            subresource: word("subresource"),
        };
        let owned = Owned {
            fields: entry.get("fieldsV1").map(Fields::from_json).unwrap_or_default(),
            api_version,
            time: Some(word("time")).filter(|time| !time.is_empty()),
        };
        owners.insert(owner, owned);
    }
    owners
}

/// Writes an object's owners, in the original's order.
pub(super) fn set_owners(object: &mut Value, owners: &Owners) {
    let mut entries: Vec<_> = owners
        .iter()
        .filter(|(_, owned)| !owned.fields.is_empty())
        .collect();
    entries.sort_by(|(a, x), (b, y)| {
        (!a.applies, &x.time, &a.manager, &x.api_version, &a.subresource).cmp(&(
            !b.applies,
            &y.time,
            &b.manager,
            &y.api_version,
            &b.subresource,
        ))
    });
    let entries: Vec<_> = entries
        .into_iter()
        .map(|(owner, owned)| {
            let mut entry = json!({
                "manager": owner.manager,
                "operation": if owner.applies { "Apply" } else { "Update" },
                "apiVersion": owned.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": owned.fields.to_json(),
            });
            if let Some(time) = &owned.time {
                entry["time"] = Value::from(time.as_str());
            }
            if !owner.subresource.is_empty() {
                entry["subresource"] = Value::from(owner.subresource.as_str());
            }
            entry
        })
        .collect();
    if entries.is_empty() {
        unset_meta(object, "managedFields");
    } else if let Some(metadata) = metadata_mut(object) {
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

/// Records an update: the writer owns what it changed, whoever owned it before.
pub(super) fn record_update(of: &Type, before: &Value, after: &mut Value, writer: &Writer<'_>) {
    let sent = after
        .get("metadata")
        .and_then(|metadata| metadata.get("managedFields"))
        .and_then(Value::as_array);
    let reset =
        sent.is_some_and(|entries| !entries.is_empty() && entries.iter().all(|entry| *entry == json!({})));
    // An object that nobody is recorded for is not followed until somebody applies to it.
    let is_new = before.pointer("/metadata/uid").is_none();
    let followed = is_new || !owners(before).is_empty();
    let mut all = owners(after);
    if all.is_empty() && !reset {
        all = owners(before);
    }
    unset_meta(after, "managedFields");
    let mut live = before.clone();
    unset_meta(&mut live, "managedFields");
    let comparison = compare(of, &live, after);
    let changed = comparison.added.union(&comparison.modified);
    let gone = changed.union(&comparison.removed);
    let me = writer.owner(false);
    for (owner, owned) in &mut all {
        if *owner != me {
            owned.fields = owned.fields.difference(&gone);
        }
    }
    let mine = writer.within_reach(&changed);
    let previous = all
        .get(&me)
        .map(|owned| owned.fields.difference(&comparison.removed));
    let time = all.get(&me).and_then(|owned| owned.time.clone());
    let owned = Owned {
        time: if mine.is_empty() {
            time
        } else {
            Some(writer.now.to_owned())
        },
        fields: mine.union(&previous.unwrap_or_default()),
        api_version: writer.api_version.to_owned(),
    };
    all.insert(me, owned);
    if (reset && mine.is_empty()) || !followed {
        all.clear();
    }
    set_owners(after, &all);
}

/// The entry of whoever wrote an object that nobody is recorded for.
pub(super) fn before_first_apply(of: &Type, live: &Value, writer: &Writer<'_>) -> (Owner, Owned) {
    let owner = Owner {
        manager: "before-first-apply".to_owned(),
        applies: false,
        api_version: writer.api_version.to_owned(),
        subresource: String::new(),
    };
    let mut written = live.clone();
    unset_meta(&mut written, "managedFields");
    let blank = json!({"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": {}});
    let fields = writer.within_reach(&compare(of, &blank, &written).added);
    let owned = Owned {
        fields,
        api_version: writer.api_version.to_owned(),
        time: Some(writer.now.to_owned()),
    };
    (owner, owned)
}
