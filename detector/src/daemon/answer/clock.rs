//! What is known of the time of day, and a person's word that the clock is right.

use detector_core::model::{ModeRequest, Timestamp};

use crate::{
    api::{
        ApiError, ErrorCode,
        view::{ClockView, ConfirmedView, moment},
    },
    daemon::{
        brain::Brain,
        clock::{Confirmed, JUMP},
    },
    enforcer::Enforcer,
};

impl<E: Enforcer> Brain<E> {
    pub(super) fn clock_view(&self) -> ClockView {
        let (now, skew) = (self.world.now, self.world.skew);
        let today = skew.today(now);
        ClockView {
            says: moment(skew.day(now)),
            doubted: skew.doubted.map(moment),
            earliest: moment(today.earliest),
            latest: moment(today.latest),
            confirmed: self.day.confirmed().map(|confirmed| ConfirmedView {
                at: moment(confirmed.at),
                instead_of: moment(confirmed.instead_of),
                uid: confirmed.uid,
                reason: confirmed.reason.clone(),
            }),
        }
    }

    /// Ends the doubt in a person's name. `says` is what the clock says to that person: one that has been
    /// set again since is not what was looked at.
    pub(super) fn confirm_clock(
        &mut self,
        says: Timestamp,
        reason: &str,
        uid: u32,
    ) -> Result<ClockView, ApiError> {
        let refused = |message: String| Err(ApiError::new(ErrorCode::BadRequest, message));
        let longest = ModeRequest::LONGEST_REASON;
        if reason.trim().is_empty() || reason.len() > longest {
            return refused(format!(
                "--reason has to say in 1 to {longest} bytes why the clock is right"
            ));
        }
        let (now, skew) = (self.world.now, self.world.skew);
        if skew.doubted.is_none() {
            return refused(
                "the clock is believed already: there is nothing to confirm".to_owned(),
            );
        }
        let at = skew.day(now);
        if at.0.abs_diff(says.0) > JUMP {
            return refused(format!(
                "the clock says {} by now, which is not the time that was to be confirmed: look at \
                 `detector clock show`, and try again",
                moment(at)
            ));
        }
        let instead_of = self.day.believed(now);
        let confirmed = Confirmed { at, instead_of, uid, reason: reason.to_owned() };
        self.day.confirm(confirmed);
        self.world.skew = self.day.skew();
        tracing::warn!(
            uid,
            at = %moment(at),
            instead_of = %moment(instead_of),
            reason,
            "a person has confirmed the host's clock"
        );
        self.settle();
        Ok(self.clock_view())
    }
}
