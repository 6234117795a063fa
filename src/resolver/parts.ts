/** The parts of a resolver's machine, in the one list of them. */
import { SNAPSHOT } from "../catalog/watch/reader.ts";
import { WaymarkError } from "../lib/errors.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import { FULL_MS, fullFault } from "./cache/cache-capacity.ts";
import { readFetchedPage, readWatchMessage } from "./codec.ts";
import type { ResolverInput, ResolverOrder } from "./io-types.ts";
import type { ResolverMachine, ResolverPart } from "./machine.ts";
import { UNASKED_MS } from "./watching/watch-selection.ts";

type Out = ResolverOrder[];

/** Most tombstones that are dropped at a time. */
const PRUNED_AT_A_TIME = 10_000;
/** Resolvers whose credentials are changed together are told so in the same second. */
const REOPENED_WITHIN_MS = 5000;

/** The parts of a resolver in the order in which they work. A new part is a row here. */
export function resolverParts(machine: ResolverMachine, time: Time): readonly ResolverPart[] {
  const { acts, held, following, digests, options } = machine;
  return [
    // This comes before the upstream changes, because the answers to report were fetched from the present one.
    { look: (now, out) => acts.tell(machine.used, now, out) },
    upstreamsRow(machine),
    { handle: { tick: (_, now) => held.tick(now) }, nextDeadlineMs: () => held.nextDeadlineMs() },
    { handle: { tick: (_, { monoMs }) => following.tick(monoMs) } },
    usedRow(machine),
    { handle: { "upstream changed": (_, _time, out) => digests.leave(out), reopen: (_, _time, out) => digests.leave(out) } },
    watchesRow(machine),
    policyRow(machine),
    summariesRow(machine),
    hearingRow(machine),
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

/** Which upstream the watches are open at. */
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
      "watch said": (input, time, out) => watchSaid(machine, input, time, out),
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
    // Refused watches wait while another watch is opening: the next attempt comes when that one is open.
    nextDeadlineMs: () => Math.min(refusals.isEmpty || watches.isOpening ? NEVER : refusals.nextDeadlineMs(), watches.nextDeadlineMs()),
  };
}

function watchSaid(
  machine: ResolverMachine,
  { stream, bytes, delayMs }: Extract<ResolverInput, { kind: "watch said" }>,
  time: Time,
  out: Out,
): void {
  const { used: upstream, watches, upstreamLiveness, upstreams } = machine;
  if (upstream === undefined) return;
  const said = machine.believed(upstream, () => readWatchMessage(bytes), time, out);
  if (said === undefined) return;
  // The policy's epoch comes before the entries that follow it: the watches below answer callers who wait for that policy.
  machine.policy.heardEpoch(said.policyEpoch, { upstream, monoMs: time.monoMs });
  const isOfWatch = machine.believed(upstream, () => watches.hear(stream, said, time, out), time, out);
  if (isOfWatch === false)
    machine.believed(upstream, () => machine.acts.repair(machine.digests.hear(stream, said, time, out) ?? [], time, out), time, out);
  if (isOfWatch !== true) return;
  machine.refusals.accepted();
  upstreamLiveness.freshness.heard(time, { isChangesOnly: said.snapshot === SNAPSHOT.NONE && said.ageMs === undefined });
  fit(machine, time, out);
  // Only the beginning and the end of a snapshot and bookmarks say how the upstream is.
  if (said.ageMs === undefined) return;
  upstreams.heardVia(upstream, said.via, time.monoMs);
  upstreams.heardStale(upstream, said.isStale, time.monoMs);
  upstreamLiveness.isUpstreamStale = said.isStale;
  if (said.snapshot === SNAPSHOT.BEGIN) return;
  if (time.monoMs >= machine.fullUntilMonoMs) machine.fault = undefined;
  if (machine.policyStream.hasSpoken) upstreams.markHealthy(upstream);
  // A bookmark of a resolver says that nothing before it is missing, even when no stream can resume from it.
  if (!watches.isInStep(stream)) return;
  machine.wholeMonoMs = time.monoMs;
  upstreamLiveness.freshness.stated(said.ageMs + delayMs, time, said.unreachable);
}

/**
 * Drops what does not fit into the memory of the cache. If even the configured namespaces do not fit, the resolver keeps what it holds completely, and follows
 * nothing for a while.
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
      // A resolver leaves an upstream that named a policy and does not send it, and waits for that policy no longer.
      tick: (_, { monoMs }, out) => {
        for (const { upstream, epoch } of policy.takeUnmet(monoMs)) {
          const who = upstream === "" ? "the copy on disk" : "it";
          out.push({ kind: "garbled", upstream, fault: `${who} named policy ${epoch}, and no server has sent that version since` });
          upstreams.lied(upstream, monoMs);
        }
      },
      "policy said": ({ stream, bytes }, time, out) => {
        const upstream = policyStream.upstreamOf(stream);
        if (upstream === undefined) return;
        if (machine.believed(upstream, () => policyStream.hear(bytes, time.monoMs), time, out) !== true) return;
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
        const said = summaries?.hear(stream, bytes, delayMs, time, out);
        const { used: upstream } = machine;
        if (said !== undefined && upstream !== undefined) machine.policy.heardEpoch(said.policyEpoch, { upstream, monoMs: time.monoMs });
      },
      "summaries ended": ({ stream, retryMs, refusal }, time) => summaries?.ended(stream, retryMs, refusal !== undefined, time),
      reopen: (_, _time, out) => summaries?.reopen(out),
    },
    look: (time, out) => summaries?.use(machine.used, time, out),
    nextDeadlineMs: () => summaries?.nextDeadlineMs() ?? NEVER,
  };
}

function hearingRow(machine: ResolverMachine): ResolverPart {
  const { upstreamLiveness, watches } = machine;
  return {
    handle: {
      tick: (_, time) => {
        if (time.monoMs < upstreamLiveness.deadMonoMs) return;
        watches.onSilence(upstreamLiveness.changesOnlyMs(time));
        machine.lose(time);
      },
      "upstream changed": (_, time) => upstreamLiveness.opened(time),
      reopen: (_, time) => upstreamLiveness.opened(time),
    },
    nextDeadlineMs: () => upstreamLiveness.deadMonoMs,
  };
}

/** Each stream continues from its place, so that nothing is fetched again and no answer is stale. */
/** Opens the streams again when the credentials of this resolver changed: soon, and not at the moment at which all other resolvers do it. */
function reopeningRow({ list }: ResolverMachine, random: () => number): ResolverPart {
  let dueMonoMs = NEVER;
  const forget = () => {
    dueMonoMs = NEVER;
  };
  return {
    handle: {
      // A reopening that is due already is not postponed.
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
  { options, fetched, following, upstreamLiveness, upstreams, replica }: ResolverMachine,
  { monoMs: startMonoMs }: Time,
): ResolverPart {
  let dueMonoMs = startMonoMs + options.pruneIntervalMs;
  return {
    handle: {
      tick: (_, time) => {
        if (time.monoMs < dueMonoMs) return;
        dueMonoMs = time.monoMs + options.pruneIntervalMs;
        fetched.prune(time, upstreamLiveness.silentSince(time));
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
          policy.heardEpoch(page.policyEpoch, { upstream, monoMs: time.monoMs });
          upstreams.heardVia(upstream, page.via, time.monoMs);
          calls.take(call, page, bytes.length, time, out);
          return true;
        };
        if (machine.believed(upstream, read, time, out)) return;
        calls.failed(call, new WaymarkError("not_ready", "an upstream sent an answer that cannot be read"));
      },
      "fetch failed": ({ call, error }, time, out) => {
        const upstream = calls.upstreamOf(call);
        // This upstream has not caught up, and its probes do not show that. Another upstream may know more.
        if (upstream !== undefined && error.reason === "not_ready") upstreams.heardStale(upstream, true, time.monoMs);
        if (!calls.askNext(call, error, upstreams.usable, time, out)) calls.failed(call, error);
      },
    },
  };
}
