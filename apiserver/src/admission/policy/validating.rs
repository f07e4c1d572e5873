//! Validating: every expression must hold, and what happens if not is the binding's.

use std::collections::BTreeMap;

use cel::Value as Cel;
use serde_json::{Value, json};

use super::definition::{Binding, Policy, Validation};
use super::evaluation::Evaluation;
use super::{Policies, refusal};
use crate::admission::matching::Scene;
use crate::admission::{Error, Request};

const MAX_MESSAGE: usize = 5 * 1024;
const MAX_ANNOTATION: usize = 10 * 1024;

/// Something that does not hold, or could not be asked.
struct Complaint {
    message: String,
    reason: Option<String>,
    /// The place of the validation in the policy.
    index: usize,
}

/// The first thing that is denied decides what the client hears.
struct Denial {
    message: String,
    reason: String,
}

/// Values of audit annotations by key; several bindings may give several.
type Annotations = BTreeMap<String, Vec<String>>;

impl Policies {
    pub(super) async fn check(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        let hooks = self.definitions.current(&*self.parts.source);
        let scene = Scene::new(request, &*self.parts.source, &self.parts.registry);
        let (invocations, misfits) = self.collect(&scene, &hooks, object).await?;
        let mut denials: Vec<Denial> = misfits
            .iter()
            .filter(|misfit| !misfit.policy.ignores)
            .map(|misfit| denial(misfit.policy, misfit.binding, &misfit.message(), None))
            .collect();
        let mut annotations: BTreeMap<&str, Annotations> = BTreeMap::new();
        for invocation in &invocations {
            let (policy, binding) = (invocation.policy, invocation.binding);
            let case = self.case(&scene, &invocation.hit, object)?;
            let scope = self.scope(&scene, invocation, &case, object).await?;
            let mut evaluation = invocation.evaluation(scope);
            let noted = annotations.entry(&policy.name).or_default();
            let (complaints, faults) = judge(policy, &mut evaluation, noted);
            for complaint in complaints {
                act(request, policy, binding, &complaint, &mut denials);
            }
            // Annotations that cannot be made are denied whatever the binding says.
            let faults = faults
                .iter()
                .map(|f| denial(policy, Some(binding), f, None));
            denials.extend(faults);
        }
        for (policy, annotations) in annotations {
            for (key, values) in annotations {
                let key = format!("{policy}/{key}");
                request.notes.annotate(key, values.join(", "));
            }
        }
        match denials.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(forbidden(request, &first)),
        }
    }
}

/// What does not hold, and which annotations could not be made.
fn judge(
    policy: &Policy,
    evaluation: &mut Evaluation<'_>,
    annotations: &mut Annotations,
) -> (Vec<Complaint>, Vec<String>) {
    let failed = |message: String, index: usize| Complaint {
        message,
        reason: None,
        index,
    };
    match evaluation.holds() {
        Ok(true) => {}
        Ok(false) => return Default::default(),
        Err(_) if policy.ignores => return Default::default(),
        Err(why) => return (vec![failed(why, 0)], Vec::new()),
    }
    let mut complaints = Vec::new();
    for (index, validation) in policy.validations.iter().enumerate() {
        let source = validation.expression.source();
        match evaluation.run(&validation.expression) {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => complaints.push(Complaint {
                message: message(validation, evaluation),
                reason: validation.reason.clone(),
                index,
            }),
            Err(_) if policy.ignores => {}
            Err(why) => {
                let message = format!("expression '{source}' resulted in error: {why}");
                complaints.push(failed(message, index));
            }
        }
    }
    let mut faults = Vec::new();
    for (key, expression) in &policy.annotations {
        let source = expression.source();
        let fault = match evaluation.run(expression) {
            Ok(Cel::Null) => continue,
            Ok(Cel::String(text)) => {
                annotate(annotations, key, text.trim());
                continue;
            }
            Ok(other) => format!(
                "valueExpression '{source}' resulted in unsupported return type: {}. Return type \
                 must be either string or null.",
                other.type_of()
            ),
            Err(_) if policy.ignores => continue,
            Err(why) => format!("expression '{source}' resulted in error: {why}"),
        };
        faults.push(fault);
    }
    (complaints, faults)
}

fn annotate(annotations: &mut Annotations, key: &str, value: &str) {
    let end = value.floor_char_boundary(MAX_ANNOTATION);
    let value = value.get(..end).unwrap_or_default().to_owned();
    let values = annotations.entry(key.to_owned()).or_default();
    if !value.is_empty() && !values.contains(&value) {
        values.push(value);
    }
}

/// What to say about a validation that does not hold.
fn message(validation: &Validation, evaluation: &mut Evaluation<'_>) -> String {
    if let Some(expression) = &validation.message_expression
        && let Ok(Cel::String(text)) = evaluation.run(expression)
    {
        let text = text.trim();
        if !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n') {
            return text.to_owned();
        }
    }
    match validation.message.as_deref().map(str::trim) {
        Some(message) if !message.is_empty() => message.to_owned(),
        _ => format!("failed expression: {}", validation.expression.source()),
    }
}

/// Does with a complaint what the binding says.
fn act(
    request: &Request<'_>,
    policy: &Policy,
    binding: &Binding,
    complaint: &Complaint,
    denials: &mut Vec<Denial>,
) {
    for action in &binding.actions {
        match action.as_str() {
            "Deny" => {
                let reason = complaint.reason.as_deref();
                denials.push(denial(policy, Some(binding), &complaint.message, reason));
            }
            "Warn" => request.notes.warn(format!(
                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                policy.name, binding.name, complaint.message
            )),
            "Audit" => {
                let value = json!([{
                    "message": complaint.message, "policy": policy.name, "binding": binding.name,
                    "expressionIndex": complaint.index, "validationActions": binding.actions,
                }]);
                let key = "validation.policy.admission.k8s.io/validation_failure";
                request.notes.annotate(key, value.to_string());
            }
            _ => {}
        }
    }
}

fn denial(
    policy: &Policy,
    binding: Option<&Binding>,
    message: &str,
    reason: Option<&str>,
) -> Denial {
    let name = &policy.name;
    let message = match binding {
        Some(Binding { name: binding, .. }) => format!(
            "ValidatingAdmissionPolicy '{name}' with binding '{binding}' denied request: {message}"
        ),
        None => format!("ValidatingAdmissionPolicy '{name}' denied request: {message}"),
    };
    Denial {
        message,
        reason: reason.unwrap_or("Invalid").to_owned(),
    }
}

fn forbidden(request: &Request<'_>, denial: &Denial) -> Error {
    let code = match denial.reason.as_str() {
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    let resource = match request.group {
        "" => request.resource.to_owned(),
        group => format!("{}.{group}", request.resource),
    };
    let why = &denial.message;
    let message = format!("{resource} {:?} is forbidden: {why}", request.name);
    refusal(
        request,
        code,
        &denial.reason,
        &message,
        std::slice::from_ref(why),
    )
}
