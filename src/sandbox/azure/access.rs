//! Who may do what, where, and since when: role assignments as they are judged.
//!
//! An assignment takes effect some time after it was made, and lasts some time after it was taken away. Both moments
//! are part of it, so judging is a question about data and the time.

use time::OffsetDateTime;

use super::path::{is_at_or_above, last_segment, same};
use super::roles::{self, Role};

/// A role assignment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Assignment {
    /// The last segment of its id.
    pub(super) name: String,
    pub(super) scope: String,
    /// The role definition's GUID.
    pub(super) role: String,
    pub(super) principal: String,
    pub(super) principal_type: String,
    pub(super) description: Option<String>,
    pub(super) condition: Option<String>,
    pub(super) condition_version: Option<String>,
    pub(super) delegated: Option<String>,
    pub(super) created_on: OffsetDateTime,
    pub(super) updated_on: OffsetDateTime,
    pub(super) by: Option<String>,
    /// From when on it counts.
    pub(super) effective_at: OffsetDateTime,
    /// Set when it was deleted: until when it still counts.
    pub(super) ends_at: Option<OffsetDateTime>,
}

impl Assignment {
    /// Its ARM id.
    pub(super) fn id(&self) -> String {
        let scope = self.scope.trim_end_matches('/');
        format!(
            "{scope}/providers/Microsoft.Authorization/roleAssignments/{}",
            self.name
        )
    }

    fn counts_at(&self, now: OffsetDateTime) -> bool {
        self.effective_at <= now && self.ends_at.is_none_or(|end| now < end)
    }
}

/// A deny assignment: it beats every role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denial {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) scope: String,
    /// Object ids; `None` means everybody.
    pub(super) principals: Option<Vec<String>>,
    /// Object ids it does not apply to.
    pub(super) excluded: Vec<String>,
    pub(super) actions: Vec<String>,
    pub(super) not_actions: Vec<String>,
    pub(super) data_actions: Vec<String>,
    pub(super) not_data_actions: Vec<String>,
}

impl Denial {
    fn denies(&self, question: Question<'_>) -> bool {
        let among = |ids: &[String]| {
            question
                .principals
                .iter()
                .any(|id| ids.iter().any(|own| same(own, id)))
        };
        let (yes, no) = if question.data {
            (&self.data_actions, &self.not_data_actions)
        } else {
            (&self.actions, &self.not_actions)
        };
        let matching = |patterns: &[String]| {
            patterns
                .iter()
                .any(|pattern| roles::matches(pattern, question.action))
        };
        is_at_or_above(&self.scope, question.scope)
            && self.principals.as_deref().is_none_or(among)
            && !among(&self.excluded)
            && matching(yes)
            && !matching(no)
    }
}

/// A deny assignment that stands in the way of what a role allows.
#[derive(Debug)]
pub(super) struct Denied<'a>(pub(super) &'a Denial);

/// All roles and assignments of the world.
#[derive(Default)]
pub(super) struct Access {
    pub(super) roles: Vec<Role>,
    pub(super) denials: Vec<Denial>,
    assignments: Vec<Assignment>,
}

/// A question to [`Access::allows`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    /// Object ids of the caller and of the groups it is in.
    pub(super) principals: &'a [String],
    pub(super) action: &'a str,
    /// Where, as a resource id.
    pub(super) scope: &'a str,
    /// True for data actions.
    pub(super) data: bool,
    pub(super) now: OffsetDateTime,
}

impl Access {
    /// Starts with the built-in roles.
    pub(super) fn new() -> Self {
        Self {
            roles: roles::built_in(),
            denials: Vec::new(),
            assignments: Vec::new(),
        }
    }

    /// True if some assignment that counts now allows this, and no deny assignment forbids it.
    pub(super) fn allows(&self, question: Question<'_>) -> bool {
        self.denied(question).is_none() && self.granting(question).next().is_some()
    }

    /// The deny assignment that forbids this.
    pub(super) fn denied(&self, question: Question<'_>) -> Option<Denied<'_>> {
        self.denials
            .iter()
            .find(|denial| denial.denies(question))
            .map(Denied)
    }

    /// True if some assignment that counts now allows this, denied or not.
    pub(super) fn grants(&self, question: Question<'_>) -> bool {
        self.granting(question).next().is_some()
    }

    /// The roles these principals have at a scope now, one for each assignment.
    pub(super) fn roles_at<'a>(
        &'a self,
        principals: &'a [String],
        scope: &'a str,
        now: OffsetDateTime,
    ) -> impl Iterator<Item = &'a Role> {
        self.counting(principals, scope, now)
            .filter_map(|assignment| self.role(&assignment.role))
    }

    /// The same for assigning, or taking away, a given role: conditions on the caller's own assignment apply.
    pub(super) fn allows_role(&self, question: Question<'_>, role: &str) -> bool {
        self.granting(question)
            .any(|granting| match &granting.assignable {
                None => true,
                Some(roles) => roles.iter().any(|allowed| same(allowed, role)),
            })
    }

    fn granting<'a>(&'a self, question: Question<'a>) -> impl Iterator<Item = &'a Role> {
        self.roles_at(question.principals, question.scope, question.now)
            .filter(move |role| role.allows(question.action, question.data))
    }

    fn counting<'a>(
        &'a self,
        principals: &'a [String],
        scope: &'a str,
        now: OffsetDateTime,
    ) -> impl Iterator<Item = &'a Assignment> {
        self.assignments.iter().filter(move |assignment| {
            assignment.counts_at(now)
                && principals.iter().any(|id| same(id, &assignment.principal))
                && is_at_or_above(&assignment.scope, scope)
        })
    }

    /// A role by GUID, full id, or name.
    pub(super) fn role(&self, text: &str) -> Option<&Role> {
        let guid = last_segment(text);
        self.roles.iter().find(|role| same(&role.id, guid)).or_else(|| {
            self.roles
                .iter()
                .find(|role| role.name.eq_ignore_ascii_case(text))
        })
    }

    /// The assignments that exist, whether they count already or not.
    pub(super) fn existing(&self) -> impl Iterator<Item = &Assignment> {
        self.assignments
            .iter()
            .filter(|assignment| assignment.ends_at.is_none())
    }

    /// The existing assignment of this name and scope.
    pub(super) fn find(&self, scope: &str, name: &str) -> Option<&Assignment> {
        self.existing()
            .find(|assignment| same(&assignment.name, name) && same(&assignment.scope, scope))
    }

    pub(super) fn add(&mut self, assignment: Assignment) {
        self.assignments.push(assignment);
    }

    /// Changes an existing assignment in place.
    pub(super) fn change(&mut self, scope: &str, name: &str, change: impl FnOnce(&mut Assignment)) {
        let found = self.assignments.iter_mut().find(|assignment| {
            assignment.ends_at.is_none() && same(&assignment.name, name) && same(&assignment.scope, scope)
        });
        if let Some(assignment) = found {
            change(assignment);
        }
    }

    /// Takes an assignment away; it counts until `ends_at`.
    pub(super) fn remove(&mut self, scope: &str, name: &str, ends_at: OffsetDateTime) -> Option<Assignment> {
        let gone = self.find(scope, name)?.clone();
        self.change(scope, name, |assignment| assignment.ends_at = Some(ends_at));
        Some(gone)
    }

    /// Forgets assignments that were taken away and no longer count.
    pub(super) fn forget(&mut self, now: OffsetDateTime) {
        self.assignments
            .retain(|assignment| assignment.ends_at.is_none_or(|end| now < end));
    }

    /// Forgets all assignments of a principal at once, as if they had never been.
    pub(super) fn drop_of(&mut self, principal: &str) {
        self.assignments
            .retain(|assignment| !same(&assignment.principal, principal));
    }

    /// Takes all assignments away that lie at or below a resource that is gone.
    pub(super) fn remove_below(&mut self, id: &str, now: OffsetDateTime) {
        for assignment in &mut self.assignments {
            if assignment.ends_at.is_none() && is_at_or_above(id, &assignment.scope) {
                assignment.ends_at = Some(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    const GROUP: &str = "/subscriptions/s/resourceGroups/g";
    const VAULT: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v";

    fn assignment(scope: &str, role: &str, principal: &str, effective_at: OffsetDateTime) -> Assignment {
        Assignment {
            name: "11111111-1111-1111-1111-111111111111".to_owned(),
            scope: scope.to_owned(),
            role: role.to_owned(),
            principal: principal.to_owned(),
            principal_type: "ServicePrincipal".to_owned(),
            description: None,
            condition: None,
            condition_version: None,
            delegated: None,
            created_on: effective_at,
            updated_on: effective_at,
            by: None,
            effective_at,
            ends_at: None,
        }
    }

    #[test]
    fn an_assignment_counts_from_its_moment_on_and_a_while_after_its_end() {
        let start = OffsetDateTime::UNIX_EPOCH;
        let mut access = Access::new();
        let reader = access.role("Reader").unwrap().id.clone();
        access.add(assignment(GROUP, &reader, "me", start + Duration::MINUTE));
        let read = |access: &Access, minutes: i64| {
            access.allows(Question {
                principals: &["ME".to_owned()],
                action: "Microsoft.KeyVault/vaults/read",
                scope: VAULT,
                data: false,
                now: start + Duration::minutes(minutes),
            })
        };
        assert!(!read(&access, 0));
        assert!(read(&access, 1));
        let name = access.existing().next().unwrap().name.clone();
        assert!(
            access
                .remove(&GROUP.to_uppercase(), &name, start + Duration::minutes(5))
                .is_some()
        );
        assert!(read(&access, 4));
        assert!(!read(&access, 5));
    }

    #[test]
    fn a_data_access_administrator_may_assign_only_the_roles_on_its_list() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let mut access = Access::new();
        let administrator = access
            .role("Key Vault Data Access Administrator")
            .unwrap()
            .id
            .clone();
        access.add(assignment(GROUP, &administrator, "me", now));
        let may = |role: &str| {
            let role = access.role(role).unwrap().id.clone();
            let question = Question {
                principals: &["me".to_owned()],
                action: "Microsoft.Authorization/roleAssignments/write",
                scope: VAULT,
                data: false,
                now,
            };
            access.allows_role(question, &role)
        };
        assert!(may("Key Vault Secrets User"));
        assert!(!may("Key Vault Certificate User"));
    }
}
