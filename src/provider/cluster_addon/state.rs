//! Between Terraform's values and an add-on. Pure.

use crate::azure::ids::ClusterId;
use crate::azure::{AddonWish, Cluster};
use crate::framework::Value;
use crate::provider::operation::identity_value;

/// What the driver does where Azure names no interval.
const DEFAULT_INTERVAL: &str = "2m";

/// The cluster of a configuration, plan or state, if it is known.
pub(super) fn cluster_id(value: &Value) -> Option<ClusterId> {
    ClusterId::parse(value.get("cluster_id").as_str()?).ok()
}

/// How the add-on should be, as far as that is known.
pub(super) fn wish(value: &Value) -> Option<AddonWish> {
    let interval = match value.get("rotation_poll_interval") {
        Value::Unknown => return None,
        interval => interval.as_str().map(str::to_owned),
    };
    Some(AddonWish {
        rotation_enabled: value.get("rotation_enabled").as_bool()?,
        rotation_poll_interval: interval,
    })
}

/// The state of a cluster that was read. `base` has the attributes that Azure does not know, and says whether the
/// interval is ours. Of an add-on that is off nothing else can be told: its lack of an identity says it.
pub(super) fn observed(base: &Value, cluster: &Cluster) -> Value {
    let addon = &cluster.addon;
    let mut state = base.clone();
    if addon.enabled {
        state.set("rotation_enabled", addon.rotation_enabled);
        if !base.get("rotation_poll_interval").is_null() {
            let live = addon.rotation_poll_interval.as_deref();
            state.set("rotation_poll_interval", live.unwrap_or(DEFAULT_INTERVAL));
        }
    }
    let identity = addon.identity.as_ref().filter(|_| addon.enabled);
    state.set("identity", identity_value(identity));
    state.set("provisioning_state", cluster.provisioning_state.as_str());
    state
}

/// Whether a plan is going to write to the cluster, by what the state knows.
pub(super) fn will_write(prior: &Value, planned: &Value) -> bool {
    let interval = planned.get("rotation_poll_interval");
    prior.get("identity").is_null()
        || prior.get("rotation_enabled") != planned.get("rotation_enabled")
        || !interval.is_null() && interval != prior.get("rotation_poll_interval")
}
