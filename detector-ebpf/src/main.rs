//! The kernel programs. Each entry point asks its hook for an outcome and maps it to an action; what
//! a frame claims and whether that is granted is decided by `detector-common`.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod counters;
mod dhcp;
mod hooks;
mod learned;
mod lookup;
mod report;
mod skb;
mod stamp;

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers::generated::bpf_redirect,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use detector_common::port::PortSlot;

use crate::{
    hooks::{port_ingress::Step, sandbox::Way},
    skb::Skb,
};

/// What becomes of a frame.
pub(crate) enum Outcome {
    /// It goes on, past the programs of others too.
    Next,
    Drop,
    /// It goes to the sandbox instead: [`enter_sandbox`] sees to it.
    Sandbox,
}

/// `TC_ACT_UNSPEC` is `TCX_NEXT`: neither ends the chain of programs, so that other people's
/// filters still run.
const fn action(outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Next => TC_ACT_UNSPEC,
        Outcome::Drop => TC_ACT_SHOT,
        // Without a helper that says where to, it is dropped.
        Outcome::Sandbox => TC_ACT_REDIRECT,
    }
}

#[classifier]
fn port_ingress(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let mut code = match lookup::inline_port(Skb::new(skb).ifindex_word()) {
        Some(slot) if hooks::port_ingress::passes_at_a_glance(&Skb::new(skb), slot) => {
            return action(Outcome::Next);
        }
        Some(slot) => vet_plain(skb, slot),
        None => WHOLE,
    };
    if code == WHOLE {
        code = vet_whole(skb);
    }
    if code == FINISH {
        code = finish_whole(skb);
    }
    if code == RENEW {
        let renews = dhcp::renews(skb);
        code = finish_renewal(skb, renews);
    }
    if code == NOTE {
        dhcp::learn_request(skb);
        code = action(Outcome::Next);
    }
    if code == TC_ACT_REDIRECT { enter_sandbox(skb) } else { code }
}

/// What [`vet_whole`] has vetted for the sandbox. A function of its own, for the sake of the stack.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn enter_sandbox(skb: *mut __sk_buff) -> i32 {
    match hooks::sandbox::enter(&Skb::new(skb)) {
        Way::Passage(inner) => redirect(Some(inner)),
        Way::Next => action(Outcome::Next),
        Way::Nowhere => action(Outcome::Drop),
    }
}

/// Sends a frame out by another interface, or drops it. One that does not exist drops it too.
fn redirect(to: Option<u32>) -> i32 {
    match to {
        // SAFETY: takes two numbers.
        Some(ifindex) => unsafe { bpf_redirect(ifindex, 0) as i32 },
        None => TC_ACT_SHOT,
    }
}

/// What [`vet_plain`], [`vet_whole`] and [`finish_whole`] return besides actions.
const WHOLE: i32 = 0x100;
const FINISH: i32 = 0x101;
const NOTE: i32 = 0x102;
const RENEW: i32 = 0x103;

/// What [`port_ingress`] has not passed at a glance. By itself, so that [`port_ingress`] keeps to few
/// registers.
#[inline(never)]
fn vet_plain(skb: *mut __sk_buff, slot: &PortSlot) -> i32 {
    hooks::port_ingress::plain(&Skb::new(skb), slot).map_or(WHOLE, action)
}

/// What [`vet_plain`] has no verdict on. A global function, like those that follow: the verifier walks it
/// once and on its own.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn vet_whole(skb: *mut __sk_buff) -> i32 {
    code(hooks::port_ingress::whole(&Skb::new(skb)))
}

/// What follows from the verdict of [`vet_whole`] where that is more than to let the frame go on.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn finish_whole(skb: *mut __sk_buff) -> i32 {
    code(hooks::port_ingress::finish(&Skb::new(skb)))
}

/// What follows where [`finish_whole`] has asked whether a lease is renewed.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn finish_renewal(skb: *mut __sk_buff, renews: i32) -> i32 {
    code(hooks::port_ingress::finish_renewal(&Skb::new(skb), renews != 0))
}

#[inline(always)]
fn code(step: Step) -> i32 {
    match step {
        Step::Done(outcome) => action(outcome),
        Step::Note => NOTE,
        Step::Finish => FINISH,
        Step::Renew => RENEW,
    }
}

#[classifier]
fn port_egress(ctx: TcContext) -> i32 {
    action(hooks::port_egress::run(&Skb::new(ctx.skb.skb)))
}

#[classifier]
fn device_port_ingress(ctx: TcContext) -> i32 {
    action(hooks::port_egress::from_device(&Skb::new(ctx.skb.skb)))
}

#[classifier]
fn device_ingress(ctx: TcContext) -> i32 {
    action(hooks::device::ingress(&Skb::new(ctx.skb.skb)))
}

#[classifier]
fn device_egress(ctx: TcContext) -> i32 {
    action(hooks::device::egress(&Skb::new(ctx.skb.skb)))
}

#[classifier]
fn bridge_ingress(ctx: TcContext) -> i32 {
    action(hooks::gate::bridge_ingress(&Skb::new(ctx.skb.skb)))
}

#[classifier]
fn bridge_egress(ctx: TcContext) -> i32 {
    action(hooks::gate::bridge_egress(&Skb::new(ctx.skb.skb)))
}

#[classifier]
fn uplink_ingress(ctx: TcContext) -> i32 {
    action(hooks::gate::uplink_ingress(&Skb::new(ctx.skb.skb)))
}

#[classifier]
fn uplink_egress(ctx: TcContext) -> i32 {
    action(hooks::gate::uplink_egress(&Skb::new(ctx.skb.skb)))
}

#[classifier]
fn passage_ingress(ctx: TcContext) -> i32 {
    redirect(hooks::sandbox::passage_ingress(&Skb::new(ctx.skb.skb)))
}

#[classifier]
fn sandbox_ingress(ctx: TcContext) -> i32 {
    action(hooks::sandbox::bridge_ingress(&Skb::new(ctx.skb.skb)))
}

#[classifier]
fn sandbox_egress(ctx: TcContext) -> i32 {
    action(hooks::sandbox::bridge_egress(&Skb::new(ctx.skb.skb)))
}

#[xdp]
fn shield(ctx: XdpContext) -> u32 {
    if hooks::shield::drops(ctx.ingress_ifindex() as u32) {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that could get here.
    loop {}
}

/// None of the helpers in use asks for the GPL; the string is one that the kernel knows.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
