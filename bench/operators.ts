/**
 * How long do operators wait, and what do programs see of their work? Part `lists`: lists of the members of a mesh while they change and are watched,
 * compared with the nodes of Consul's catalog. The other parts use five nodes with a shared control store. `status`: the time of `waymark status`.
 * `operations`: the time until a cordon, its end or a label is in force. `drain`: one of the nodes is drained under load. About four minutes.
 * `npm run bench -- operators [--parts lists,status,operations,drain] [--members 1000] [--seconds 20] [--lists 20] [--changes 50] [--watchers 100]
 * [--runs 5] [--operations 300] [--lookups 2000] [--watches 500] [--leases 1000] [--statics 1000]`.
 */
import { argsOf, asksForAll } from "./_args.ts";
import { drainUnderLoad, LEASE_MS, MAX_TTL_MS } from "./_drains.ts";
import { othersBeside, sleep } from "./_mesh.ts";
import { type OperationTimes, operate, pausedTimes, statusTimes } from "./_operations.ts";
import { type OperatorFleet, startFleet } from "./_operator-fleet.ts";
import { listConsulNodes, listPeers, type PeerFigures } from "./_peer-lists.ts";
import { type Goal, percentile, quiet, type Report, report, round, spread } from "./_results.ts";
import { fail } from "./_work.ts";
import { EtcdCluster } from "./adapters/etcd.ts";

const DEFAULTS = {
  parts: ["lists", "status", "operations", "drain"],
  members: 1000,
  seconds: 20,
  lists: 20,
  changes: 50,
  watchers: 100,
  runs: 5,
  operations: 300,
  lookups: 2000,
  watches: 500,
  leases: 1000,
  statics: 1000,
} as const;
const values = argsOf(DEFAULTS);
const [MEMBERS, NODES, DRAINED] = [3, 5, 2];
/** Each node evaluates its findings every 5 s, so findings about the start of the nodes are gone after this time (ms). */
const FINDINGS_MS = 6000;
/** The limits of the issue, and the time (s) of a drain beyond `dns.max_ttl`. */
const [MAX_LIST_MS, MAX_UNCHANGED_MS, MAX_CHANGE_MS, MAX_DRAIN_SECONDS] = [200, 2, 1000, 30];
const [MAX_STATUS_MS, MAX_STATUS_DEAD_MS, MAX_OPERATION_MS] = [1000, 3000, 1000];

type Part = Pick<Report, "tables" | "goals" | "notes">;

interface Lag {
  readonly way: "SSE" | "gRPC";
  readonly lagMs: readonly number[];
}

function listGoals({ listMs, unchangedMs }: PeerFigures, theirs: readonly number[] | undefined, lags: readonly Lag[]): readonly Goal[] {
  const { members, lists: perSecond, changes, watchers } = values;
  const work = `a list of ${members} members as JSON, ${perSecond} times per second, with ${changes} changes per second and ${watchers} watches over SSE and over gRPC each`;
  const beside = "Consul's /v1/catalog/nodes, stale, without changes and watches";
  const unchanged = `a list of ${members} members that the client already has, by its ETag`;
  return [
    {
      name: "a list of all members, p99",
      value: percentile(listMs, 0.99),
      unit: "ms",
      atMost: MAX_LIST_MS,
      shown: { work, beside, unit: "ms", ours: spread(listMs), ...(theirs !== undefined && { theirs: spread(theirs) }) },
    },
    {
      name: "a list that has not changed (304), p99",
      value: percentile(unchangedMs, 0.99),
      unit: "ms",
      atMost: MAX_UNCHANGED_MS,
      shown: { work: unchanged, unit: "ms", ours: spread(unchangedMs) },
    },
    ...lags.map(
      ({ way, lagMs }): Goal => ({
        name: `a watcher over ${way} sees a change, p99`,
        value: lagMs.length === 0 ? undefined : percentile(lagMs, 0.99),
        unit: "ms",
        atMost: MAX_CHANGE_MS,
        shown: { work: `a member changes: time until each of ${watchers} watchers over ${way} has it`, unit: "ms", ours: spread(lagMs) },
      }),
    ),
  ];
}

async function lists(): Promise<Part> {
  const { members, seconds, lists: listsPerSecond, changes: changesPerSecond, watchers: watches } = values;
  const load = { members, seconds, listsPerSecond, changesPerSecond, watches };
  const ours = await listPeers(load);
  const theirs = await listConsulNodes(load);
  const lags: readonly Lag[] = [
    { way: "SSE", lagMs: ours.sseLagMs },
    { way: "gRPC", lagMs: ours.grpcLagMs },
  ];
  const took = [{ who: "waymark", ms: ours.listMs }, ...(theirs === undefined ? [] : [{ who: "consul", ms: theirs }])];
  const times = (ms: readonly number[]) => ({ "p50 ms": percentile(ms, 0.5), "p99 ms": percentile(ms, 0.99) });
  return {
    tables: {
      "lists of members": took.map(({ who, ms }) => ({ who, lists: ms.length, ...times(ms) })),
      "changes seen by watchers": lags.map(({ way, lagMs }) => ({ way, changes: lagMs.length, ...times(lagMs) })),
      "the server of the lists": [
        { "KiB of a list": round(ours.listBytes / 1024), "share of a core": round(ours.cpuShare), "others' share": round(ours.others) },
      ],
    },
    goals: listGoals(ours, theirs, lags).map((goal) => quiet(goal, ours.others)),
    notes: [
      "The members are a table in the server's process, behind the listeners of a node, because a thousand nodes do not fit on the machine. The table makes its rows as a node does; the fabric itself costs nothing here.",
      `Consul is asked for as many nodes with two pairs of metadata each, on one core. It is not watched meanwhile.${theirs === undefined ? " It is not installed here." : ""}`,
    ],
  };
}

function status(title: string, tookMs: readonly number[], atMost: number): Part {
  const { median, max } = spread(tookMs);
  return {
    tables: { [title]: [{ runs: tookMs.length, "median ms": round(median), "at most ms": round(max) }] },
    goals: [{ name: title, value: max, unit: "ms", atMost, shown: { work: title, unit: "ms", ours: spread(tookMs) } }],
    notes: [],
  };
}

async function operations(fleet: OperatorFleet): Promise<Part> {
  const othersOf = othersBeside(fleet.processes);
  const times = await operate(fleet, values.operations);
  const others = othersOf();
  const rows = Map.groupBy(times, ({ verb }) => verb)
    .entries()
    .map(([operation, each]) => {
      const p = (of: (one: OperationTimes) => number | readonly number[], share: number) => percentile(each.flatMap(of), share);
      const shown = {
        "shown by others p50 ms": p(({ shownMs }) => shownMs, 0.5),
        "shown by others p99 ms": p(({ shownMs }) => shownMs, 0.99),
      };
      const own = { "in force p50 ms": p(({ inForceMs }) => inForceMs, 0.5), "in force p99 ms": p(({ inForceMs }) => inForceMs, 0.99) };
      return {
        operation,
        calls: each.length,
        "answer p50 ms": p(({ answeredMs }) => answeredMs, 0.5),
        ...own,
        ...shown,
        "others' share": round(others),
      };
    });
  const inForceMs = times.map((each) => each.inForceMs);
  const work = "a cordon, its end or a label, called on another node: time until it is in force on the node";
  const goal = { name: "an operation is in force, p99", value: percentile(inForceMs, 0.99), unit: "ms", atMost: MAX_OPERATION_MS };
  return {
    tables: { operations: [...rows] },
    goals: [quiet({ ...goal, shown: { work, unit: "ms", ours: spread(inForceMs) } }, others)],
    notes: [
      "A cordon is in force when the node refuses a registration, its end when the node accepts one, and a label when the node shows it. All nodes are asked every 20 ms.",
    ],
  };
}

/** `silentServers` as `silent servers`. */
function words(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

async function drain(fleet: OperatorFleet): Promise<Part> {
  const { lookups: lookupsPerSecond, watches, leases, statics } = values;
  const figures = await drainUnderLoad(fleet, DRAINED, { lookupsPerSecond, watches, leases, statics });
  const { steps, others, programs, lookups, lateNames, cachedSeconds, drainedSeconds, wrongCounts } = figures;
  const { removals, wrongDigests, otherUpdates, sets } = programs;
  const named = (what: string) => `a node is drained under load: ${what}`;
  const none = (what: string, value: number, unit: string): Goal => ({ name: named(what), value, unit, atMost: 0 });
  const atMost = MAX_TTL_MS / 1000 + MAX_DRAIN_SECONDS;
  return {
    tables: {
      "seconds from the call of a drain": [
        { ...Object.fromEntries(steps.entries().map(([step, s]) => [step, round(s)])), "shown by others": round(drainedSeconds) },
      ],
      "lookups during the drain": [{ ...lookups, "others' share": round(others) }],
      "programs during the drain": [Object.fromEntries(Object.entries(programs).map(([name, count]) => [words(name), count]))],
      "cores used during the drain": [Object.fromEntries(Object.entries(figures.cores).map(([who, share]) => [who, round(share)]))],
    },
    goals: [
      none("lookups that failed", lookups.failed, "lookups"),
      none("answers in which an entry was absent", lookups["an entry absent"] + wrongCounts, "answers"),
      none("gaps in watches", removals + wrongDigests + otherUpdates + sets - 1, "gaps"),
      none("DNS answers with its address, dns.max_ttl after it was withdrawn", lateNames, "answers"),
      quiet({ name: named("time until it is drained"), value: drainedSeconds, unit: "s", atMost }, others),
    ],
    notes: [
      `One of ${NODES} nodes is drained under ${lookupsPerSecond} lookups per second, spread over all nodes, of which a tenth are DNS questions. It has ${leases} leases of ${LEASE_MS / 1000} s with one entry each, which Waymark's client keeps, and ${statics} static entries. ${watches} watches of all entries are spread over the nodes. dns.max_ttl has its default, ${MAX_TTL_MS / 1000} s.`,
      "A lookup fails if it is refused or has no answer within 2 s. The columns about lateness show how much later than planned the load generator sent lookups.",
      `DNS caches had forgotten the last answer with the address of the node ${round(cachedSeconds)} s after the step of addresses began.`,
    ],
  };
}

async function fleetParts(has: (part: (typeof DEFAULTS.parts)[number]) => boolean): Promise<readonly Part[]> {
  const etcd = await EtcdCluster.start(MEMBERS);
  if (etcd === undefined) throw new Error("needs etcd: npm run bench -- --install");
  const fleet = await startFleet(etcd, NODES);
  const parts: Part[] = [];
  if (has("status")) {
    await sleep(FINDINGS_MS);
    parts.push(status(`waymark status of ${NODES} nodes`, await statusTimes(fleet, values.runs, 0), MAX_STATUS_MS));
  }
  if (has("operations")) parts.push(await operations(fleet));
  if (has("drain")) parts.push(await drain(fleet));
  if (has("status")) {
    parts.push(status(`waymark status of ${NODES} nodes, one paused`, await pausedTimes(fleet, values.runs), MAX_STATUS_DEAD_MS));
    process.kill(fleet.nodes.at(-1)?.pid ?? fail(), "SIGKILL");
    parts.push(status(`waymark status of ${NODES} nodes, one killed`, await statusTimes(fleet, values.runs, 1), MAX_STATUS_DEAD_MS));
  }
  fleet.client.close();
  await Promise.all(fleet.processes.map((each) => each.stop("SIGKILL")));
  return parts;
}

const has = (part: (typeof DEFAULTS.parts)[number]) => values.parts.includes(part);
const parts = has("lists") ? [await lists()] : [];
if (values.parts.some((part) => part !== "lists")) parts.push(...(await fleetParts(has)));
report({
  name: "operators",
  isKept: asksForAll(values, DEFAULTS),
  tables: Object.assign({}, ...parts.map(({ tables }) => tables)) as Report["tables"],
  goals: parts.flatMap(({ goals }) => goals),
  notes: parts.flatMap(({ notes }) => notes),
});
process.exit();
