/**
 * What do operators wait for? Part `peers`: lists of the members of a mesh while they change and are watched, beside the nodes of Consul's catalog.
 * About a minute. `npm run bench -- operators [--members 1000] [--seconds 20] [--lists 20] [--changes 50] [--watches 100]`.
 */
import { argsOf, asksForAll } from "./_args.ts";
import { listConsulNodes, listPeers } from "./_peer-lists.ts";
import { type Goal, percentile, quiet, report, round, spread } from "./_results.ts";

const DEFAULTS = { members: 1000, seconds: 20, lists: 20, changes: 50, watches: 100 };
const values = argsOf(DEFAULTS);
const { members, seconds, lists: listsPerSecond, changes: changesPerSecond, watches } = values;
const load = { members, seconds, listsPerSecond, changesPerSecond, watches };

const ours = await listPeers(load);
const theirs = await listConsulNodes(load);
const BESIDE = "Consul's /v1/catalog/nodes, stale, without changes and watches";

const work = `a list of ${members} members as JSON, ${listsPerSecond} times per second, with ${changesPerSecond} changes per second and ${watches} watches over SSE and over gRPC each`;
const lags = [
  { way: "SSE", lagMs: ours.sseLagMs },
  { way: "gRPC", lagMs: ours.grpcLagMs },
];

const goals: readonly Goal[] = [
  {
    name: "a list of all members, p99",
    value: percentile(ours.listMs, 0.99),
    unit: "ms",
    atMost: 200,
    shown: { work, beside: BESIDE, unit: "ms", ours: spread(ours.listMs), ...(theirs !== undefined && { theirs: spread(theirs) }) },
  },
  {
    name: "a list that has not changed (304), p99",
    value: percentile(ours.unchangedMs, 0.99),
    unit: "ms",
    atMost: 2,
    shown: { work: `a list of ${members} members that the client already has, by its ETag`, unit: "ms", ours: spread(ours.unchangedMs) },
  },
  ...lags.map(
    ({ way, lagMs }): Goal => ({
      name: `a watcher over ${way} sees a change, p99`,
      value: lagMs.length === 0 ? undefined : percentile(lagMs, 0.99),
      unit: "ms",
      atMost: 1000,
      shown: { work: `a member changes: time until each of ${watches} watchers over ${way} has it`, unit: "ms", ours: spread(lagMs) },
    }),
  ),
];

report({
  name: "operators",
  isKept: asksForAll(values, DEFAULTS),
  tables: {
    "lists of members": [
      { who: "waymark", lists: ours.listMs.length, "p50 ms": percentile(ours.listMs, 0.5), "p99 ms": percentile(ours.listMs, 0.99) },
      ...(theirs === undefined
        ? []
        : [{ who: "consul", lists: theirs.length, "p50 ms": percentile(theirs, 0.5), "p99 ms": percentile(theirs, 0.99) }]),
    ].map((row) => ({ ...row, "p50 ms": round(row["p50 ms"]), "p99 ms": round(row["p99 ms"]) })),
    "changes seen by watchers": lags.map(({ way, lagMs }) => ({
      way,
      changes: lagMs.length,
      "p50 ms": percentile(lagMs, 0.5),
      "p99 ms": percentile(lagMs, 0.99),
    })),
    "the server": [
      { "KiB of a list": round(ours.listBytes / 1024), "share of a core": round(ours.cpuShare), "others' share": round(ours.others) },
    ],
  },
  goals: goals.map((goal) => quiet(goal, ours.others)),
  notes: [
    "The members are a table in the server's process, behind the listeners of a node, because a thousand nodes do not fit on the machine. The table makes its rows as a node does; the fabric itself costs nothing here.",
    `Consul is asked for as many nodes with two pairs of metadata each, on one core. It is not watched meanwhile.${theirs === undefined ? " It is not installed here." : ""}`,
  ],
});
