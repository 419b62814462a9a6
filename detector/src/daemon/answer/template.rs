use detector_core::model::Template;

use crate::{
    api::{ApiError, ErrorCode, view::TemplateView},
    daemon::brain::Brain,
    enforcer::Enforcer,
    suggest::did_you_mean,
};

impl<E: Enforcer> Brain<E> {
    pub(super) fn template_views(&self) -> Vec<TemplateView> {
        self.world.registry.templates.iter().map(|template| self.template_view(template)).collect()
    }

    /// The template of that name: `ID` where it has one version, `ID@VERSION`, or `ID@` for the one
    /// without a version.
    pub(super) fn template_named(&self, name: &str) -> Result<TemplateView, ApiError> {
        let templates = self.world.registry.templates.iter();
        let found: Vec<_> = templates.filter(|template| template.is_named(name)).collect();
        match found[..] {
            [] => {
                let known = self.world.registry.templates.iter().map(Template::name);
                let known: Vec<_> = known.collect();
                let close = did_you_mean(name, known.iter().map(String::as_str));
                let message =
                    format!("no template {name:?}{close}; detector template list shows all");
                Err(ApiError::new(ErrorCode::NotFound, message))
            }
            [one] => Ok(self.template_view(one)),
            _ => {
                let names: Vec<_> = found.iter().map(|template| template.exact_name()).collect();
                let message = format!(
                    "template {name:?} has several versions; say which: {}",
                    names.join(", ")
                );
                Err(ApiError::new(ErrorCode::Ambiguous, message))
            }
        }
    }

    fn template_view(&self, template: &Template) -> TemplateView {
        let mut vms: Vec<_> = self
            .decision
            .vms
            .iter()
            .filter(|(_, decision)| {
                decision.template.as_deref() == Some(template.id.as_str())
                    && decision.template_version == template.version
            })
            .map(|(uuid, _)| self.vm(*uuid).map_or(uuid.to_string(), |(_, vm)| vm.name.clone()))
            .collect();
        vms.sort();
        TemplateView::of(template, vms, self.world.skew.day(self.world.now))
    }
}
