//! From requests to inputs: what a request needs to be read afresh is read here, off the loop.

use detector_core::model::{PowerState, Vm};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    files::Templates,
    hands::Callers,
    input::{Admit, CallId, Input},
};
use crate::{
    api::{
        Reply, Request,
        server::Call,
        view::{AdmissionOutcome, AdmissionView},
    },
    inventory::xml,
    net::link_by_name,
};

/// Hands every call to the brain, until there are no more.
pub(super) async fn take(
    mut calls: mpsc::Receiver<Call>,
    callers: Callers,
    templates: Templates,
    libvirt: String,
    inputs: mpsc::Sender<Input>,
) {
    let mut id: CallId = 0;
    while let Some(call) = calls.recv().await {
        id += 1;
        let hanging = call.replies.clone();
        callers.add(id, call.replies);
        let (inputs, callers, templates) = (inputs.clone(), callers.clone(), templates.clone());
        let source = libvirt.clone();
        let uid = call.peer.uid;
        tokio::spawn(async move {
            let watch = matches!(call.request, Request::QuarantineWatch {});
            let given = hand_in(id, uid, call.request, source, &templates, &inputs).await;
            if let Given::Answer(answer) = &given {
                let _ = hanging.send(Ok(Reply::Admission(answer.clone()))).await;
            }
            if !matches!(given, Given::ToTheBrain) {
                callers.remove(id);
            } else if watch {
                hanging.closed().await;
                callers.remove(id);
                let _ = inputs.send(Input::HungUp(id)).await;
            }
        });
    }
}

enum Given {
    ToTheBrain,
    Answer(AdmissionView),
    /// The brain has stopped.
    Nowhere,
}

async fn hand_in(
    id: CallId,
    uid: u32,
    request: Request,
    source: String,
    templates: &Templates,
    inputs: &mpsc::Sender<Input>,
) -> Given {
    let input = match request {
        Request::Admit { op, xml, .. } if op != "start" => {
            if let Ok(vm) = xml::parse(&xml, PowerState::InTransit) {
                let told = match op.as_str() {
                    "migrate" => inputs.send(Input::Incoming(vm.uuid)).await,
                    "release" => inputs.send(Input::Ended(vm.uuid)).await,
                    _ => Ok(()),
                };
                drop(told);
            }
            return Given::Answer(AdmissionView {
                start: true,
                outcome: AdmissionOutcome::Undecided,
                message: String::new(),
            });
        }
        Request::Admit { name, xml, .. } => {
            let described = spawn_blocking(move || describe(&xml)).await;
            let (vm, links) = described.unwrap_or_else(|error| (Err(error.to_string()), vec![]));
            let registry = templates.fresh().await;
            Input::Admit(Box::new(Admit { id, source, name, vm, links, registry }))
        }
        request => {
            // Whoever has just corrected a manifest need not wait for it to be noticed.
            if matches!(request, Request::QuarantineRelease { .. } | Request::Explain { .. })
                && let Some(registry) = templates.fresh().await
            {
                let _ = inputs.send(Input::Registry(registry)).await;
            }
            Input::Request { id, uid, request }
        }
    };
    match inputs.send(input).await {
        Ok(()) => Given::ToTheBrain,
        Err(_) => Given::Nowhere,
    }
}

/// The VM, and its interfaces as they are now. Blocks.
fn describe(text: &str) -> (Result<Vm, String>, Vec<detector_core::model::Link>) {
    let vm = xml::parse(text, PowerState::Starting)
        .map_err(|error| format!("its description is refused: {error}"));
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
