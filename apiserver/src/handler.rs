//! The way of a request through the server: who, may they, what, and the one set of handlers for all kinds.

mod access;
mod admit;
mod answer;
mod binding;
mod body;
mod call;
mod collection;
mod component;
mod create;
mod delete;
mod eviction;
mod field_manager;
mod get;
mod list;
mod metadata;
pub(crate) mod page;
mod past;
mod patch;
mod proxy;
mod review;
mod scale;
mod selected;
mod token;
pub(crate) mod transaction;
mod update;
mod watch;
mod write;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::IntoResponse;
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, header};

pub(crate) use answer::{Answer, object_answer};
pub(crate) use call::{Call, now};

use crate::ApiServer;
use crate::aggregation;
use crate::audit::Trail;
use crate::auth::{Attributes, UserInfo, protocol_token};
use crate::error::StatusError;
use crate::fairness::Class;
use crate::metrics::Labels;
use crate::request::{Accept, Form, Lean, Options, ResourcePath, Target, Verb};
use crate::resource::{Resource, Review, Subresource};

/// Requests that are not streams are given up after this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What is found out about a request on its way, for those who look at its answer.
#[derive(Default)]
struct Notes {
    labels: Labels,
    class: Option<Class>,
    /// Of a request that is audited.
    trail: Option<Trail>,
}

/// Answers any request. Never fails: every failure is a `Status`.
pub(crate) async fn serve(server: Arc<ApiServer>, request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    protocol_token::take(&mut parts);
    let mut notes = Notes::default();
    let metrics = server.clone();
    let gzip = accepts_gzip(&parts);
    let handled = AssertUnwindSafe(route(server, parts, body, &mut notes))
        .catch_unwind()
        .await;
    let panicked = handled.is_err();
    let mut response = match handled {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => error.into_response(),
        Err(_) => {
            tracing::error!("a request handler panicked");
            StatusError::internal("the request handler panicked; see the server's log")
                .into_response()
        }
    };
    metrics
        .metrics
        .observe(&notes.labels, response.status().as_u16(), started.elapsed());
    if let Some(class) = notes.class {
        class.write(response.headers_mut());
    }
    if let Some(trail) = notes.trail {
        response = trail.finish(response, panicked).await;
    }
    if gzip {
        crate::compress::gzip(response)
    } else {
        response
    }
}

fn accepts_gzip(parts: &Parts) -> bool {
    let header = parts.headers.get(header::ACCEPT_ENCODING);
    header
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("gzip"))
}

async fn route(
    server: Arc<ApiServer>,
    parts: Parts,
    body: Body,
    notes: &mut Notes,
) -> Result<Response<Body>, StatusError> {
    let sender = access::identify(&server, &parts).await?;
    let target = Target::parse(parts.uri.path())?;
    let options = match &target {
        // The query is for whoever is behind the proxy.
        Target::Resource(path) if path.subresource == "proxy" => Options::default(),
        // These have parameters of their own.
        Target::Other(_) => Options::default(),
        Target::Resource(_) => Options::parse(parts.uri.query().unwrap_or_default())?,
    };
    match target {
        Target::Other(path) => {
            let method = parts.method.as_str().to_ascii_lowercase();
            let attributes = Attributes::path(&method, &path);
            let width = || 1;
            let (user, _seat) =
                access::enter(&server, &parts, sender, &attributes, width, notes).await?;
            if let Some(external) = server.aggregation.find_path(&path) {
                return aggregation::proxy(&server, &external, &user, parts, body, false).await;
            }
            server.other_path(&path, &parts).await
        }
        Target::Resource(path) => {
            let verb = path.verb(&parts.method, options.watch);
            let verb = verb.ok_or_else(StatusError::method_not_allowed)?;
            notes.labels.verb = verb.to_owned();
            let pinned = options.pinned_name(verb);
            let attributes = path.attributes(verb, pinned.as_deref());
            let attributes = attributes.selected_by(&options.field_selector);
            let width = || access::width(&server, &path, verb, &options);
            let (user, _seat) =
                access::enter(&server, &parts, sender, &attributes, width, notes).await?;
            let body = access::look_into(&parts.method, &path.subresource, body, notes).await?;
            if let Some(external) = server.aggregation.find(&path.group, &path.version) {
                let streams = verb == "watch";
                return aggregation::proxy(&server, &external, &user, parts, body, streams).await;
            }
            if transaction::is_here(&path, verb) {
                let caller = transaction::Caller {
                    manager: manager(&options, &parts),
                    server,
                    user,
                    options,
                };
                return transaction::run(&caller, body::read(body).await?).await;
            }
            let call = call(server, path, options, user, &parts)?;
            notes.labels.resource = call.resource.plural.to_string();
            if call.resource.subresource(&call.path.subresource).is_some() {
                notes.labels.subresource.clone_from(&call.path.subresource);
            }
            let noted = call.notes.clone();
            let handled = dispatch(call, verb, parts, body).await;
            let mut response = handled.unwrap_or_else(IntoResponse::into_response);
            // Refusals carry warnings too, and answers that are no objects.
            add_warnings(response.headers_mut(), &noted.take_warnings());
            if let Some(trail) = notes.trail.as_mut() {
                for (key, value) in noted.annotations() {
                    trail.annotate(key, value);
                }
            }
            Ok(response)
        }
    }
}

fn call(
    server: Arc<ApiServer>,
    path: ResourcePath,
    options: Options,
    user: Arc<UserInfo>,
    parts: &Parts,
) -> Result<Call, StatusError> {
    let snapshot = server.registry.snapshot();
    let resource = snapshot
        .find(&path.group, &path.version, &path.resource)
        .ok_or_else(StatusError::no_such_path)?;
    let header = |name: header::HeaderName| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    check_scope(&resource, &path, &parts.method)?;
    let mut accept = Accept::parse(header(header::ACCEPT), resource.custom.is_none())?;
    accept.lean = parts.extensions.get::<Lean>().is_some();
    Ok(Call {
        accept,
        manager: manager(&options, parts),
        content_type: header(header::CONTENT_TYPE).to_owned(),
        notes: Arc::default(),
        batch: None,
        server,
        resource,
        path,
        options,
        user,
    })
}

/// Who writes, by the options or by the client's own name.
fn manager(options: &Options, parts: &Parts) -> String {
    let agent = parts.headers.get(header::USER_AGENT);
    let agent = agent
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    field_manager::name(options.field_manager.as_deref(), agent)
}

/// A cluster-scoped object has no namespace in its path; a namespaced one needs it unless all namespaces
/// are read.
fn check_scope(
    resource: &Resource,
    path: &ResourcePath,
    method: &Method,
) -> Result<(), StatusError> {
    let is_namespace = resource.is("", "namespaces");
    if !resource.namespaced && !path.namespace.is_empty() && !is_namespace {
        return Err(StatusError::no_such_path());
    }
    if resource.namespaced && path.namespace.is_empty() {
        if !path.name.is_empty() {
            return Err(StatusError::no_such_path());
        }
        if !matches!(*method, Method::GET | Method::HEAD | Method::DELETE) {
            return Err(StatusError::method_not_allowed());
        }
    }
    Ok(())
}

/// Streams run as long as the client wants; everything else is bounded.
async fn dispatch(
    call: Call,
    verb: &str,
    parts: Parts,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    let streams = verb == "watch" || access::is_stream(&call.path.subresource);
    let handled = run(call, verb, parts, body);
    if streams {
        return handled.await;
    }
    match tokio::time::timeout(REQUEST_TIMEOUT, handled).await {
        Ok(result) => result,
        Err(_) => Err(StatusError::timeout(
            "request did not complete within the allotted time",
        )),
    }
}

async fn run(
    call: Call,
    verb: &str,
    parts: Parts,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    check_options(&call, verb)?;
    if !call.path.subresource.is_empty() {
        let subresource = call.resource.subresource(&call.path.subresource).cloned();
        let subresource = subresource.ok_or_else(StatusError::no_such_path)?;
        return run_subresource(call, verb, &subresource, parts, body).await;
    }
    let allowed = |wanted| {
        call.resource
            .verbs
            .iter()
            .any(|have| have.as_str() == wanted)
    };
    if !allowed(verb) {
        return Err(StatusError::method_not_allowed());
    }
    if let Some(review) = call.resource.review {
        return match review {
            Review::Binding => binding::create(&call, body::read(body).await?, None).await,
            Review::Answered => review::answer(&call, body::read(body).await?).await,
            Review::Computed if verb == "get" => component::get(&call).await,
            Review::Computed => component::list(&call).await,
        };
    }
    match verb {
        "get" => get::get(&call).await,
        "list" => list::list(&call).await,
        "watch" => watch::watch(&call).await,
        "create" => create::create(&call, body::read(body).await?).await,
        "update" => update::update(&call, body::read(body).await?).await,
        "patch" => patch::patch(&call, body::read(body).await?).await,
        "delete" => delete::delete(&call, body::read(body).await?).await,
        _ => collection::delete_collection(&call, body::read(body).await?).await,
    }
}

/// Patches and deletions look at theirs when they know more.
fn check_options(call: &Call, verb: &str) -> Result<(), StatusError> {
    let options = &call.options;
    if call.accept.form == Form::Table
        && let Some(fault) = options.fault("includeObject")
    {
        let message = format!("Unable to convert to Table as requested: {fault}");
        return Err(StatusError::bad_request(message));
    }
    match verb {
        "create" if access::is_stream(&call.path.subresource) => Ok(()),
        "create" => options.check(Verb::Create),
        "update" => options.check(Verb::Update),
        "list" | "deletecollection" => options.check(Verb::List),
        "watch" => options.check(Verb::Watch),
        _ => Ok(()),
    }
}

async fn run_subresource(
    call: Call,
    verb: &str,
    subresource: &Subresource,
    parts: Parts,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    // A proxy passes on methods too that are no verbs.
    let passed = *subresource == Subresource::Proxy && verb.is_empty();
    if !passed && !subresource.verbs().iter().any(|have| have.as_str() == verb) {
        return Err(StatusError::method_not_allowed());
    }
    match (subresource, verb) {
        (Subresource::Log, _) => proxy::log(&call, parts).await,
        (Subresource::Exec | Subresource::Attach | Subresource::PortForward, _) => {
            if verb == "get" {
                // Who may only read must not get a shell by opening a WebSocket.
                access::require(&call.server, &call.user, &call.path, "create").await?;
            }
            let options = admit::connect(&call, &parts).await?;
            proxy::upgrade(&call, parts, &options).await
        }
        (Subresource::Proxy, _) => {
            admit::connect(&call, &parts).await?;
            proxy::proxy(&call, parts, body).await
        }
        (Subresource::Scale(paths), verb) => {
            let body = body::read(body).await?;
            match verb {
                "get" => scale::get(&call, paths).await,
                "update" => scale::update(&call, paths, &body).await,
                _ => scale::patch(&call, paths, &body).await,
            }
        }
        (Subresource::Binding, _) => {
            let name = call.path.name.clone();
            binding::create(&call, body::read(body).await?, Some(&name)).await
        }
        (Subresource::Eviction, _) => eviction::create(&call, body::read(body).await?).await,
        (Subresource::Token, _) => token::create(&call, body::read(body).await?).await,
        (_, "get") => get::get(&call).await,
        (_, "patch") => patch::patch(&call, body::read(body).await?).await,
        _ => update::update(&call, body::read(body).await?).await,
    }
}

/// One `Warning` header (RFC 7234) per text, as client-go prints them.
pub(crate) fn add_warnings(headers: &mut http::HeaderMap, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            headers.append(header::WARNING, value);
        }
    }
}
