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
    bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC},
    macros::classifier,
    programs::TcContext,
};

use crate::{hooks::port_ingress::Step, skb::Skb};

/// What becomes of a frame.
pub(crate) enum Outcome {
    /// It goes on, past the programs of others too.
    Next,
    Drop,
}

/// `TC_ACT_UNSPEC` is `TCX_NEXT`: neither ends the chain of programs, so that other people's
/// filters still run.
const fn action(outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Next => TC_ACT_UNSPEC,
        Outcome::Drop => TC_ACT_SHOT,
    }
}

#[classifier]
fn port_ingress(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    if let Some(outcome) = hooks::port_ingress::run(&Skb::new(skb)) {
        return action(outcome);
    }
    let mut code = vet_whole(skb);
    if code == FINISH {
        code = finish_whole(skb);
    }
    if code == NOTE {
        dhcp::learn_request(skb);
        code = action(Outcome::Next);
    }
    code
}

/// What [`vet_whole`] and [`finish_whole`] return besides actions.
const FINISH: i32 = 0x100;
const NOTE: i32 = 0x101;

/// What [`port_ingress`] has not passed at first sight. A global function: the verifier walks it
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

#[inline(always)]
fn code(step: Step) -> i32 {
    match step {
        Step::Done(outcome) => action(outcome),
        Step::Note => NOTE,
        Step::Finish => FINISH,
    }
}

#[classifier]
fn port_egress(ctx: TcContext) -> i32 {
    action(hooks::port_egress::run(&Skb::new(ctx.skb.skb)))
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

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that could get here.
    loop {}
}

/// None of the helpers in use asks for the GPL; the string is one that the kernel knows.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
