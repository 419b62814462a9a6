//! From requests to inputs: what a request needs to be read afresh is read here, off the loop.

use std::sync::Arc;

use detector_core::{
    decide::policy::Rules,
    model::{PowerState, Vm},
};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    actions::Action,
    files::Fresh,
    hands::Callers,
    input::{Admit, CallId, Input},
    reload::Reloader,
};
use crate::{
    alert::Alerts,
    api::{ApiError, ErrorCode, Reply, Request, server::Call, view::AdmissionView},
    audit::Writer,
    inventory::{
        Connection,
        xml::{self, Context},
    },
    net::link_by_name,
};

/// Who has a part in answering calls, besides the brain.
pub(super) struct Beside {
    pub(super) fresh: Fresh,
    pub(super) alerts: Alerts,
    pub(super) connections: Vec<Connection>,
    pub(super) reloader: Reloader,
    pub(super) audit: Writer,
}

/// Hands every call to whoever answers it, most of them to the brain, until there are no more.
pub(super) async fn take(
    mut calls: mpsc::Receiver<Call>,
    callers: Callers,
    beside: Beside,
    inputs: mpsc::Sender<Input>,
) {
    let Beside { fresh, alerts, connections, reloader, audit } = beside;
    let mut id: CallId = 0;
    let connections: Arc<[Connection]> = connections.into();
    while let Some(call) = calls.recv().await {
        id += 1;
        let action = Action::of(&call.request);
        let hanging = call.replies.clone();
        if action.is_none() {
            callers.add(id, call.replies);
        }
        let (inputs, callers, fresh) = (inputs.clone(), callers.clone(), fresh.clone());
        let alerts = alerts.clone();
        let reloader = reloader.clone();
        let connections = Arc::clone(&connections);
        let (uid, audit) = (call.peer.uid, audit.clone());
        tokio::spawn(async move {
            let (hanging, asked) = match action {
                None => (hanging, None),
                Some(action) => match action.begin((&call.peer, call.on_behalf), &audit).await {
                    Err(refusal) => return drop(hanging.send(Err(refusal)).await),
                    Ok(asked) => {
                        let (outcome, outcomes) = mpsc::channel(1);
                        callers.add(id, outcome.clone());
                        (outcome, Some((asked, outcomes, hanging)))
                    }
                },
            };
            let watch = matches!(call.request, Request::QuarantineWatch {});
            let given = match is_about_alerts(&call.request) {
                true => Given::Answer(alerts.ask(uid, call.request).await),
                false => {
                    let fresh = (&fresh, &reloader);
                    hand_in(id, uid, call.request, &connections, fresh, &inputs).await
                }
            };
            if let Given::Answer(answer) = &given {
                let _ = hanging.send(answer.clone()).await;
            }
            if !matches!(given, Given::ToTheBrain) {
                callers.remove(id);
            } else if watch {
                hanging.closed().await;
                callers.remove(id);
                let _ = inputs.send(Input::HungUp(id)).await;
            }
            drop(hanging);
            if let Some((asked, outcomes, replies)) = asked {
                asked.end(outcomes, replies, &audit).await;
            }
        });
    }
}

/// Whether the brain has nothing to do with it.
const fn is_about_alerts(request: &Request) -> bool {
    matches!(
        request,
        Request::FindingAck { .. }
            | Request::FindingSuppress { .. }
            | Request::FindingUnsuppress { .. }
            | Request::AlertStatus {}
            | Request::AlertList {}
            | Request::AlertTest { .. }
    )
}

enum Given {
    ToTheBrain,
    Answer(Result<Reply, ApiError>),
    /// The brain has stopped.
    Nowhere,
}

async fn hand_in(
    id: CallId,
    uid: u32,
    request: Request,
    connections: &[Connection],
    (fresh, reloader): (&Fresh, &Reloader),
    inputs: &mpsc::Sender<Input>,
) -> Given {
    // Until the brain has been told.
    let mut turn = None;
    let input = match request {
        Request::Admit { op, xml, .. } if op != "start" => {
            let parsed = xml::parse(&xml, PowerState::InTransit, &Context::default());
            let uuid = parsed.ok().map(|vm| vm.uuid);
            match (op.as_str(), uuid) {
                ("release", Some(uuid)) => Input::Ended { id, uuid },
                (op, uuid) => {
                    if let ("migrate", Some(uuid)) = (op, uuid) {
                        let _ = inputs.send(Input::Incoming(uuid)).await;
                    }
                    return Given::Answer(Ok(Reply::Admission(AdmissionView::noted())));
                }
            }
        }
        Request::Admit { name, xml, source, .. } => {
            let (source, context) = match manager(source, connections) {
                Ok(Some(manager)) => (manager.uri.clone(), manager.context.get()),
                // Nobody lists it: the hook's word is all there is.
                Ok(None) => ("libvirt's hook".to_owned(), Arc::default()),
                Err(error) => return Given::Answer(Err(error)),
            };
            let described = spawn_blocking(move || describe(&xml, &context)).await;
            let (vm, links) = described.unwrap_or_else(|error| (Err(error.to_string()), vec![]));
            let (registry, read) = fresh.templates.fresh().await;
            turn = Some(read);
            if let Some(rules) = fresh.policy.fresh().await {
                let _ = inputs.send(Input::Rules(rules)).await;
            }
            Input::Admit(Box::new(Admit { id, source, name, vm, links, registry }))
        }
        Request::Reload {} => reloader.load(id).await,
        Request::PolicyDiff { text } => {
            // Reading it takes a while, which is none of the brain's time.
            match spawn_blocking(move || Rules::parse(&text)).await {
                Ok(Ok(rules)) => Input::PolicyDiff { id, rules: Arc::new(rules) },
                Ok(Err(faults)) => {
                    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
                    let message = format!("this is no policy:\n{}", faults.join("\n"));
                    return Given::Answer(Err(ApiError::new(ErrorCode::BadRequest, message)));
                }
                Err(_) => return Given::Nowhere,
            }
        }
        request => {
            // Whoever has just corrected a manifest or the policy need not wait for it to be noticed.
            if matches!(
                request,
                Request::QuarantineRelease { .. }
                    | Request::Explain { .. }
                    | Request::TemplateList {}
                    | Request::TemplateShow { .. }
                    | Request::RemediateStart { .. }
                    | Request::RemediateApprove { .. }
            ) {
                let (registry, _turn) = fresh.templates.fresh().await;
                if let Some(registry) = registry {
                    let _ = inputs.send(Input::Registry(registry)).await;
                }
                if let Some(rules) = fresh.policy.fresh().await {
                    let _ = inputs.send(Input::Rules(rules)).await;
                }
            }
            Input::Request { id, uid, request }
        }
    };
    let told = inputs.send(input).await;
    drop(turn);
    match told {
        Ok(()) => Given::ToTheBrain,
        Err(_) => Given::Nowhere,
    }
}

/// The libvirt whose hook speaks of a VM, and in whose inventory it will appear; the first one where the
/// hook does not say.
fn manager(
    named: Option<String>,
    connections: &[Connection],
) -> Result<Option<&Connection>, ApiError> {
    let Some(uri) = named else { return Ok(connections.first()) };
    let found = connections.iter().find(|connection| connection.uri == uri);
    found.map(Some).ok_or_else(|| {
        let all: Vec<_> = connections.iter().map(|connection| connection.uri.as_str()).collect();
        let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        let message =
            format!("there is no connection to {uri}; expected one of `libvirt.uris`: {all}");
        ApiError::new(ErrorCode::BadRequest, message)
    })
}

/// The VM, and its interfaces as they are now. Blocks.
fn describe(
    text: &str,
    context: &Context,
) -> (Result<Vm, String>, Vec<detector_core::model::Link>) {
    let vm = xml::parse(text, PowerState::Starting, context)
        .map_err(|error| format!("its description is refused: {error}"));
    // Libvirt waits for this answer, and so cannot be asked. It tells of the domain itself in a moment.
    let named = xml::volume::named(text);
    let unknown = named.iter().find(|name| !context.volumes.contains_key(*name));
    let vm = match unknown {
        Some((pool, volume)) => {
            Err(format!("libvirt has not said yet where volume {volume} of pool {pool} is"))
        }
        None => vm,
    };
    let ports = vm.iter().flat_map(|vm| &vm.nics).filter_map(|nic| nic.port.as_deref());
    let links = ports
        .filter_map(|port| match link_by_name(port) {
            Ok(link) => link,
            Err(error) => {
                tracing::warn!(%error, "an interface of a VM that starts cannot be looked up");
                None
            }
        })
        .collect();
    (vm, links)
}
