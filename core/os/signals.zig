//! Faults by signals, on Linux and macOS, and other people's handlers of the same signals.
//!
//! The handlers of one signal are a chain, ours and other people's in turn: ours pass on what is not
//! for us to the handler that they were put over, and do what the system would do if that stood on
//! top. Since others are installed over ours, ours are put on top again, each time as another
//! function (a level). So whoever has remembered the handler that he found, and restores or calls it
//! later, comes to a level below the one that has called him, and the chain ends whatever others do.
//! If there were only one level, it and a handler installed over it would go round for ever.
//!
//! Levels are not used again, since somebody may remember them. They take no lock, and nothing of a
//! thread's own: a handler may leave by `longjmp`.

const std = @import("std");
const os = @import("../os.zig");

const c = struct {
    extern "c" fn sigaction(signal: SIG, new: ?*const Action, old: ?*Action) c_int;
    extern "c" fn sigemptyset(set: *std.c.sigset_t) c_int;
    extern "c" fn sigaddset(set: *std.c.sigset_t, signal: SIG) c_int;
    extern "c" fn pthread_sigmask(
        how: c_int,
        set: *const std.c.sigset_t,
        old: ?*std.c.sigset_t,
    ) c_int;
    extern "c" fn raise(signal: SIG) c_int;
};

const SA = std.c.SA;
const SIG = std.c.SIG;
const Action = std.c.Sigaction;
const Handler = Action.sigaction_fn;

pub const Info = std.c.siginfo_t;
pub const Signal = SIG;

/// Enough for a program that now and then enables or disables another handler between two loads.
/// Beyond it faults cannot be caught any more, and who asks for it is refused.
const level_count = 64;

/// What systems differ in.
pub const System = struct {
    /// What a signal says of a page; null if it is about something else.
    faultOf: fn (signal: Signal, info: *const Info) ?os.Fault,
    /// By `kill`, `raise` or a timer, and not by the instruction that it has interrupted.
    wasSent: fn (info: *const Info) bool,
    /// Of the instruction that it has interrupted, which meets it again if it is tried again.
    comesAgain: fn (signal: Signal, info: *const Info) bool,
};

pub fn Signals(comptime system: System) type {
    return struct {
        var fault_hook: std.atomic.Value(?os.FaultHook) = .init(null);
        const caught = [_]SIG{ .BUS, .SEGV };
        var chains: [caught.len]Chain = @splat(.{});

        pub fn catchFaults(hook: os.FaultHook, code: *i64) os.Error!void {
            fault_hook.store(hook, .release);
            for (&chains, caught) |*chain, signal| try chain.putOnTop(signal, code);
        }

        const levels: [level_count]Handler = levels: {
            var functions: [level_count]Handler = undefined;
            for (&functions, 0..) |*function, level| function.* = Level(level).handle;
            break :levels functions;
        };

        fn Level(comptime level: usize) type {
            return struct {
                fn handle(signal: SIG, info: *const Info, context: ?*anyopaque) callconv(.c) void {
                    handleAt(level, signal, info, context);
                }
            };
        }

        /// Not inline: there are many levels.
        noinline fn handleAt(
            level: usize,
            signal: SIG,
            info: *const Info,
            context: ?*anyopaque,
        ) void {
            const errno = std.c._errno();
            const kept = errno.*;
            defer errno.* = kept;
            if (system.faultOf(signal, info)) |fault| {
                if (fault_hook.load(.acquire).?(fault)) return;
            }
            for (&chains, caught) |*chain, each| {
                if (each == signal) return chain.passOn(level, signal, info, context);
            }
        }

        const Chain = struct {
            /// Levels that were put on top so far.
            count: usize = 0,
            /// Of each level the handler that it was put over. Zero, so that it takes no room in
            /// the library's file.
            below: [level_count]Action = std.mem.zeroes([level_count]Action),

            fn putOnTop(chain: *Chain, signal: SIG, code: *i64) os.Error!void {
                var found: Action = undefined;
                if (c.sigaction(signal, null, &found) != 0) return refused(code);
                if (isOurs(&found)) return;
                if (chain.count == level_count) {
                    code.* = @backingInt(std.c.E.NOMEM);
                    return error.System;
                }
                // There already when the first signal comes to the new level.
                chain.below[chain.count] = found;
                // System calls that the signal interrupts fail if they would below.
                const handled = found.handler.handler != SIG.DFL and
                    found.handler.handler != SIG.IGN;
                const restart = if (handled) found.flags & SA.RESTART else SA.RESTART;
                const ours = action(
                    .{ .sigaction = levels[chain.count] },
                    // A handler below may raise the signal again, to end the process by it.
                    SA.SIGINFO | SA.ONSTACK | SA.NODEFER | restart,
                );
                // Another thread may have put a handler there since it was asked for.
                if (c.sigaction(signal, &ours, &found) != 0) return refused(code);
                chain.below[chain.count] = found;
                chain.count += 1;
            }

            fn passOn(
                chain: *Chain,
                level: usize,
                signal: SIG,
                info: *const Info,
                context: ?*anyopaque,
            ) void {
                const next = &chain.below[level];
                const handler = @atomicLoad(?Action.handler_fn, &next.handler.handler, .monotonic);
                // A fault cannot be ignored.
                if (handler == SIG.IGN and system.wasSent(info)) return;
                if (handler == SIG.DFL or handler == SIG.IGN) return end(signal, info);
                if (next.flags & SA.RESETHAND != 0) {
                    @atomicStore(?Action.handler_fn, &next.handler.handler, SIG.DFL, .monotonic);
                }
                var blocked = next.mask;
                if (next.flags & SA.NODEFER == 0) _ = c.sigaddset(&blocked, signal);
                var before: std.c.sigset_t = undefined;
                _ = c.pthread_sigmask(SIG.BLOCK, &blocked, &before);
                if (next.flags & SA.SIGINFO != 0) {
                    @as(Handler, @ptrCast(@alignCast(handler.?)))(signal, info, context);
                } else {
                    handler.?(signal);
                }
                _ = c.pthread_sigmask(SIG.SETMASK, &before, null);
            }
        };

        /// The process ends by the signal, as if nobody had handled it.
        fn end(signal: SIG, info: *const Info) void {
            const default = action(.{ .handler = SIG.DFL }, 0);
            _ = c.sigaction(signal, &default, null);
            // Whatever does not come again by itself would be lost, and the guard with it.
            if (!system.comesAgain(signal, info)) _ = c.raise(signal);
        }

        fn isOurs(found: *const Action) bool {
            if (found.flags & SA.SIGINFO == 0) return false;
            const handler = found.handler.sigaction orelse return false;
            return std.mem.findScalar(Handler, &levels, handler) != null;
        }
    };
}

fn action(handler: @FieldType(Action, "handler"), flags: @FieldType(Action, "flags")) Action {
    var result: Action = .{ .handler = handler, .mask = undefined, .flags = flags };
    _ = c.sigemptyset(&result.mask);
    return result;
}

fn refused(code: *i64) os.Error {
    code.* = std.c._errno().*;
    return error.System;
}
