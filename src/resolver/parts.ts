/** Lists the parts of a resolver's state machine, and implements those that connect its components. */
import { SNAPSHOT } from "../catalog/watch/reader.ts";
import { WaymarkError } from "../lib/errors.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import { FULL_MS, fullFault } from "./cache/cache-capacity.ts";
import { readFetchedPage, readWatchMessage } from "./codec.ts";
import type { ResolverInput, ResolverOrder } from "./io-types.ts";
import type { ResolverMachine, ResolverPart } from "./machine.ts";
import { UNASKED_MS } from "./watching/watch-selection.ts";

type Out = ResolverOrder[];

/** Maximum number of tombstones removed per pruning pass. */
const PRUNED_AT_A_TIME = 10_000;
/** Each resolver waits for a random part of this time, because the credentials of many resolvers often change at the same time. */
const REOPENED_WITHIN_MS = 5000;

/** Returns the parts of a resolver in the order in which they run. To add a part, add a row to this list. */
export function resolverParts(machine: ResolverMachine, time: Time): readonly ResolverPart[] {
  const { acts, held, following, digests, options } = machine;
  return [
    // This part runs before the upstream changes, because the answers to report were fetched from the current upstream.
    { look: (now, out) => acts.report(machine.used, now, out) },
    upstreamsRow(machine),
    { handle: { tick: (_, now) => held.tick(now) }, nextDeadlineMs: () => held.nextDeadlineMs() },
    { handle: { tick: (_, { monoMs }) => following.tick(monoMs) } },
    usedRow(machine),
    { handle: { "upstream changed": (_, _time, out) => digests.leave(out), reopen: (_, _time, out) => digests.leave(out) } },
    watchesRow(machine),
    policyRow(machine),
    summariesRow(machine),
    livenessRow(machine),
    reopeningRow(machine, options.random),
    pruneRow(machine, time),
    { look: (now, out) => digests.adjust(machine.used, machine.wanted, now, out), nextDeadlineMs: () => digests.nextDeadlineMs() },
    {
      handle: {
        act: (input, now, out) => acts.begin(input, machine.upstreams.isCutOff, now, out),
        "upstream changed": () => acts.fail(),
      },
      look: (now) => acts.adjust(now),
      nextDeadlineMs: () => acts.nextDeadlineMs(),
    },
    fetchesRow(machine),
  ];
}

function upstreamsRow(machine: ResolverMachine): ResolverPart {
  const { upstreams } = machine;
  return {
    handle: {
      probed: ({ upstream, latencyMs, facts }, { monoMs }) => upstreams.answered(upstream, latencyMs, facts, monoMs),
      "probe failed": ({ upstream, retryMs }, { monoMs }) => upstreams.failed(upstream, monoMs, retryMs),
      garbled: ({ upstream, fault }, time, out) => machine.distrust(upstream, fault, time, out),
    },
    look: ({ monoMs }, out) => {
      for (const upstream of upstreams.takeProbes(monoMs)) out.push({ kind: "probe", upstream });
      for (const refused of upstreams.takeRefused()) out.push({ kind: "refused", ...refused });
    },
    nextDeadlineMs: () => upstreams.nextDeadlineMs(),
  };
}

/** Switches the watches to the currently selected upstream. */
function usedRow(machine: ResolverMachine): ResolverPart {
  return {
    look: (time, out) => {
      const { current } = machine.upstreams;
      const isFull = time.monoMs < machine.fullUntilMonoMs;
      if (current === machine.used && isFull === machine.isFull) return;
      machine.upstreamChangeCount += Number(current !== undefined && current !== machine.used);
      Object.assign(machine, { used: current, isFull });
      machine.list.deliver({ kind: "upstream changed", upstream: current, isFull }, time, out);
    },
    nextDeadlineMs: () => (machine.isFull ? machine.fullUntilMonoMs : NEVER),
  };
}

function watchesRow(machine: ResolverMachine): ResolverPart {
  const { watches, refusals, digests } = machine;
  return {
    handle: {
      "watch said": (input, time, out) => onWatchMessage(machine, input, time, out),
      "watch ended": ({ stream, retryMs, refusal }, time, out) => {
        const refused = refusal === undefined ? undefined : watches.refused(stream, time, out);
        if (refused !== undefined && refusal !== undefined) {
          if (refusals.refused(refused, refusal, time.monoMs)) machine.lose(time, retryMs);
        } else if (watches.ended(stream, time, out)) machine.lose(time, retryMs);
        else digests.ended(stream);
      },
      "upstream changed": ({ upstream, isFull }, time, out) => {
        refusals.clear();
        watches.use(isFull ? undefined : upstream, time, out);
      },
      reopen: (_, _time, out) => watches.reopen(out),
    },
    look: (time, out) => machine.want(time, out),
    // Refused watches wait while another watch is opening. They are retried once that watch is open.
    nextDeadlineMs: () => Math.min(refusals.isEmpty || watches.isOpening ? NEVER : refusals.nextDeadlineMs(), watches.nextDeadlineMs()),
  };
}

function onWatchMessage(
  machine: ResolverMachine,
  { stream, bytes, delayMs }: Extract<ResolverInput, { kind: "watch said" }>,
  time: Time,
  out: Out,
): void {
  const { used: upstream, watches, liveness, upstreams } = machine;
  if (upstream === undefined) return;
  const message = machine.parseOrDistrust(upstream, () => readWatchMessage(bytes), time, out);
  if (message === undefined) return;
  // The policy epoch must be recorded before the entries are applied, because applying them answers callers who wait for that policy.
  machine.policy.noteEpoch(message.policyEpoch, { upstream, monoMs: time.monoMs });
  const isOfWatch = machine.parseOrDistrust(upstream, () => watches.receive(stream, message, time, out), time, out);
  if (isOfWatch === false)
    machine.parseOrDistrust(
      upstream,
      () => machine.acts.repair(machine.digests.receive(stream, message, time, out) ?? [], time, out),
      time,
      out,
    );
  if (isOfWatch !== true) return;
  machine.refusals.accepted();
  liveness.freshness.heard(time, { isChangesOnly: message.snapshot === SNAPSHOT.NONE && message.ageMs === undefined });
  fit(machine, time, out);
  // Only snapshot boundaries and bookmarks contain the upstream's state.
  if (message.ageMs === undefined) return;
  upstreams.noteVia(upstream, message.via, time.monoMs);
  upstreams.noteStale(upstream, message.isStale, time.monoMs);
  liveness.isUpstreamStale = message.isStale;
  if (message.snapshot === SNAPSHOT.BEGIN) return;
  if (time.monoMs >= machine.fullUntilMonoMs) machine.fault = undefined;
  if (machine.policyStream.hasReceived) upstreams.markHealthy(upstream);
  // A bookmark from a resolver confirms that no earlier change is missing, even if the bookmark has no cursor from which a stream can resume.
  if (!watches.isInStep(stream)) return;
  machine.wholeMonoMs = time.monoMs;
  liveness.freshness.stated(message.ageMs + delayMs, time, message.unreachable);
}

/**
 * Releases entries and prefixes that exceed the cache limits. If even the configured namespaces do not fit, the resolver keeps its complete data and
 * stops following all namespaces for a while.
 */
function fit(machine: ResolverMachine, time: Time, out: Out): void {
  const { watches, space } = machine;
  if (watches.isReplacing) return;
  let result = space.fit(time);
  for (; result === "less"; result = space.fit(time)) watches.wantLess(machine.wanted, time, out);
  if (result === "fits") return;
  if (result === "admitted") return watches.admit(out);
  machine.fault = fullFault(machine.options);
  machine.fullUntilMonoMs = time.monoMs + FULL_MS;
}

function policyRow(machine: ResolverMachine): ResolverPart {
  const { policy, policyStream, upstreams, watches } = machine;
  return {
    handle: {
      // If an upstream announced a policy version and did not send it, the resolver stops using that upstream and stops waiting for the version.
      tick: (_, { monoMs }, out) => {
        for (const { upstream, epoch } of policy.takeUnmet(monoMs)) {
          const who = upstream === "" ? "the copy on disk" : "the upstream";
          out.push({ kind: "garbled", upstream, fault: `${who} referred to policy version ${epoch}, which no server has sent since` });
          upstreams.noteUnmetClaim(upstream, monoMs);
        }
      },
      "policy said": ({ stream, bytes }, time, out) => {
        const upstream = policyStream.upstreamOf(stream);
        if (upstream === undefined) return;
        if (machine.parseOrDistrust(upstream, () => policyStream.receive(bytes, time.monoMs), time, out) !== true) return;
        if (!watches.isOpen) upstreams.markHealthy(upstream);
      },
      "policy ended": ({ stream, retryMs }, time) => {
        if (policyStream.ended(stream)) machine.lose(time, retryMs);
      },
      reopen: (_, _time, out) => policyStream.reopen(out),
    },
    look: (_, out) => policyStream.use(machine.used, out),
    nextDeadlineMs: () => policy.nextDeadlineMs(),
  };
}

function summariesRow(machine: ResolverMachine): ResolverPart {
  const { summaries } = machine;
  return {
    handle: {
      tick: (_, time) => summaries?.work(time),
      "summaries said": ({ stream, bytes, delayMs }, time, out) => {
        const message = summaries?.hear(stream, bytes, delayMs, time, out);
        const { used: upstream } = machine;
        if (message !== undefined && upstream !== undefined)
          machine.policy.noteEpoch(message.policyEpoch, { upstream, monoMs: time.monoMs });
      },
      "summaries ended": ({ stream, retryMs, refusal }, time) => summaries?.ended(stream, retryMs, refusal !== undefined, time),
      reopen: (_, _time, out) => summaries?.reopen(out),
    },
    look: (time, out) => summaries?.use(machine.used, time, out),
    nextDeadlineMs: () => summaries?.nextDeadlineMs() ?? NEVER,
  };
}

function livenessRow(machine: ResolverMachine): ResolverPart {
  const { liveness, watches } = machine;
  return {
    handle: {
      tick: (_, time) => {
        if (time.monoMs < liveness.deadMonoMs) return;
        watches.onSilence(liveness.changesOnlyMs(time));
        machine.lose(time);
      },
      "upstream changed": (_, time) => liveness.opened(time),
      reopen: (_, time) => liveness.opened(time),
    },
    nextDeadlineMs: () => liveness.deadMonoMs,
  };
}

/**
 * Reopens the streams after the credentials changed, at a random time within 5 s so that resolvers do not all reconnect at the same time. Each stream
 * resumes from its cursor, so entries are not fetched again and answers do not become stale.
 */
function reopeningRow({ list }: ResolverMachine, random: () => number): ResolverPart {
  let dueMonoMs = NEVER;
  const forget = () => {
    dueMonoMs = NEVER;
  };
  return {
    handle: {
      // A reopening that is already scheduled is not postponed.
      "credentials changed": (_, { monoMs }) => {
        dueMonoMs = Math.min(dueMonoMs, monoMs + REOPENED_WITHIN_MS * random());
      },
      tick: (_, time, out) => {
        if (time.monoMs < dueMonoMs) return;
        forget();
        list.deliver({ kind: "reopen" }, time, out);
      },
      "upstream changed": forget,
    },
    nextDeadlineMs: () => dueMonoMs,
  };
}

function pruneRow(
  { options, fetched, following, liveness, upstreams, replica }: ResolverMachine,
  { monoMs: startMonoMs }: Time,
): ResolverPart {
  let dueMonoMs = startMonoMs + options.pruneIntervalMs;
  return {
    handle: {
      tick: (_, time) => {
        if (time.monoMs < dueMonoMs) return;
        dueMonoMs = time.monoMs + options.pruneIntervalMs;
        fetched.prune(time, liveness.silentSince(time));
        if (!upstreams.isCutOff) following.prune(time.monoMs - UNASKED_MS);
        replica.collect(time, PRUNED_AT_A_TIME);
      },
    },
    nextDeadlineMs: () => dueMonoMs,
  };
}

function fetchesRow(machine: ResolverMachine): ResolverPart {
  const { calls, upstreams, policy } = machine;
  return {
    handle: {
      fetched: ({ call, bytes }, time, out) => {
        const upstream = calls.upstreamOf(call);
        if (upstream === undefined) return;
        const read = (): true => {
          const page = readFetchedPage(bytes);
          policy.noteEpoch(page.policyEpoch, { upstream, monoMs: time.monoMs });
          upstreams.noteVia(upstream, page.via, time.monoMs);
          calls.take(call, page, bytes.length, time, out);
          return true;
        };
        if (machine.parseOrDistrust(upstream, read, time, out)) return;
        calls.failed(call, new WaymarkError("not_ready", "an upstream sent a malformed answer; retry"));
      },
      "fetch failed": ({ call, error }, time, out) => {
        const upstream = calls.upstreamOf(call);
        // This upstream has not caught up, but its probes do not show this. Another upstream may have newer data.
        if (upstream !== undefined && error.reason === "not_ready") upstreams.noteStale(upstream, true, time.monoMs);
        if (!calls.askNext(call, error, upstreams.usable, time, out)) calls.failed(call, error);
      },
    },
  };
}
