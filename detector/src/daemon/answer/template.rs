use detector_core::model::{Template, TemplateStatus};

use crate::{
    api::{
        ApiError, ErrorCode,
        view::{ImageView, TemplateView, moment},
    },
    daemon::brain::Brain,
    enforcer::Enforcer,
};

impl<E: Enforcer> Brain<E> {
    pub(super) fn template_views(&self) -> Vec<TemplateView> {
        self.world.registry.templates.iter().map(|template| self.template_view(template)).collect()
    }

    pub(super) fn template_named(&self, id: &str) -> Result<TemplateView, ApiError> {
        let found = self.world.registry.templates.iter().find(|template| template.id == id);
        found.map(|template| self.template_view(template)).ok_or_else(|| {
            let message = format!("no template {id:?}; detector template list shows all");
            ApiError::new(ErrorCode::NotFound, message)
        })
    }

    fn template_view(&self, template: &Template) -> TemplateView {
        let mut vms: Vec<_> = self
            .decision
            .vms
            .iter()
            .filter(|(_, decision)| decision.template.as_deref() == Some(template.id.as_str()))
            .map(|(uuid, _)| self.vm(*uuid).map_or(uuid.to_string(), |(_, vm)| vm.name.clone()))
            .collect();
        vms.sort();
        let expired = template.expires.is_some_and(|at| at <= self.world.now);
        let status = match template.status {
            TemplateStatus::Revoked => "revoked",
            _ if expired => "expired",
            TemplateStatus::Approved => "approved",
            TemplateStatus::Deprecated => "deprecated",
        };
        TemplateView {
            id: template.id.clone(),
            version: template.version.clone(),
            os: template.os.clone(),
            status: status.to_owned(),
            expires: template.expires.map(moment),
            images: template
                .images
                .iter()
                .map(|image| ImageView { role: image.role, sha256: image.sha256.to_string() })
                .collect(),
            vms,
        }
    }
}
