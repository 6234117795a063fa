/**
 * What do identities cost, and how fast are they revoked? Part `joins`: newcomers join through three issuers over three etcd members, compared with
 * step-ca. `renewals`: nodes renew short certificates while they serve streams. `revocations`: the time until a revoked node or token is refused and
 * cut everywhere. `absence`: nodes start after three days (needs libfaketime). About 14 minutes.
 * `npm run bench -- identity [--parts joins,renewals,revocations,absence] [--joins 1000] [--minutes 10] [--streams 1000] [--ttl 60] [--nodes 20]
 * [--revocations 20] [--days 3]`.
 */
import { generateKeyPairSync } from "node:crypto";
import { existsSync } from "node:fs";
import { joinCluster } from "../src/node/identity/issuer-client.io.ts";
import { argsOf, asksForAll } from "./_args.ts";
import { IdentityFleet } from "./_identity-fleet.ts";
import { cpuMs, othersBeside, sleep } from "./_mesh.ts";
import { listenerOf, type Node } from "./_processes.ts";
import { type Goal, percentile, quiet, type Report, ratioGoal, report, round, spread } from "./_results.ts";
import { type CutTimes, revokeNode, revokeToken } from "./_revocations.ts";
import { Wire } from "./_wire.ts";
import { fail, PATH, watchBytes } from "./_work.ts";
import { EtcdCluster } from "./adapters/etcd.ts";
import { startStepCa } from "./adapters/step-ca.ts";

const DEFAULTS = {
  parts: ["joins", "renewals", "revocations", "absence"],
  joins: 1000,
  minutes: 10,
  streams: 1000,
  ttl: 60,
  nodes: 20,
  revocations: 20,
  days: 3,
} as const;
const values = argsOf(DEFAULTS);
const [MEMBERS, ISSUERS, NODES] = [3, 3, 5];
const IN_FLIGHT = 16;
const USES = 1;
const LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
/** The limits of the issue. */
const [MAX_JOIN_SECONDS, MAX_REVOKE_MS, MAX_START_SECONDS] = [60, 2000, 30];

type Part = Pick<Report, "tables" | "goals" | "notes">;

/** Runs `work` for the numbers up to `count`, several at the same time. */
async function inFlight(count: number, work: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < count; i = next++) await work(i);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
}

async function joins(): Promise<Part> {
  const count = values.joins;
  const etcd = await EtcdCluster.start(MEMBERS);
  if (etcd === undefined) throw new Error("needs etcd: npm run bench -- --install");
  const store = { kind: "etcd", endpoints: etcd.endpoints };
  const fleet = await IdentityFleet.start({ issuers: ISSUERS, nodes: ISSUERS, isPinned: true, settings: { store } });
  const tokens: string[] = [];
  for (let i = 0; i < count; i += USES) tokens.push(await fleet.createJoinToken("", USES));
  const keys = Array.from({ length: count }, () => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey);
  const othersOf = othersBeside([...fleet.nodes, ...etcd.members]);
  const [startMs, nodesMs, etcdMs] = [performance.now(), cpuMs(fleet.nodes), cpuMs(etcd.members)];
  await inFlight(count, async (i) => {
    await joinCluster(fleet.fabrics[i % ISSUERS] ?? fail(), tokens[Math.floor(i / USES)] ?? fail(), `m-${i}`, keys[i] ?? fail());
  });
  const seconds = (performance.now() - startMs) / 1000;
  const ours = (cpuMs(fleet.nodes) - nodesMs) / count;
  const theirEtcd = (cpuMs(etcd.members) - etcdMs) / count;
  const others = othersOf();
  await fleet.stop("SIGKILL");
  await Promise.all(etcd.members.map((member) => member.stop("SIGKILL")));
  const theirs = await stepCaMs(count);
  const work = `${count} newcomers join through ${ISSUERS} issuers on one core`;
  const shown = {
    work: "a certificate for a newcomer, with the record of it",
    beside: "step-ca, /1.0/sign with a JWK provisioner",
    unit: "ms of CPU",
  };
  return {
    tables: {
      joins: [
        {
          joins: count,
          seconds: round(seconds),
          "ms of CPU": round(ours),
          "etcd ms of CPU": round(theirEtcd),
          "others' share": round(others),
        },
      ],
      "step-ca": [{ certificates: count, "ms of CPU": theirs === undefined ? "not installed" : round(theirs) }],
    },
    goals: [
      quiet(
        {
          name: "joins through three issuers",
          value: seconds,
          unit: "s",
          atMost: MAX_JOIN_SECONDS,
          shown: { work, unit: "s", ours: seconds },
        },
        others,
      ),
      ratioGoal({ name: "CPU of a certificate, compared with step-ca", shown, ratio: theirs && ours / theirs, ours, theirs, atMost: 1 }),
    ],
    notes: [
      `Each newcomer opens two TLS connections, one to find the root and one to join. Each newcomer has a token of its own, and ${IN_FLIGHT} newcomers join at the same time. The CPU time includes everything else that three idle nodes do meanwhile, and not etcd's, which has a column.`,
      "step-ca writes each certificate to its own database. Its requests come over one new TLS connection each.",
    ],
  };
}

/** CPU time of a certificate. Undefined when step-ca is not installed. */
async function stepCaMs(count: number): Promise<number | undefined> {
  const server = await startStepCa();
  if (server === undefined) return undefined;
  const requests = server.requests(count);
  const beforeMs = server.cpuMs();
  await inFlight(count, (i) => server.sign(requests[i] ?? fail()));
  const ms = (server.cpuMs() - beforeMs) / count;
  await server.stop("SIGKILL");
  return ms;
}

/** Sums a metric of all nodes. `pattern` matches the name with its labels. */
async function metricOf(nodes: readonly Node[], token: string, pattern: RegExp): Promise<number> {
  const texts = await Promise.all(
    nodes.map(async (node) => {
      const { host, port } = listenerOf(node, "http");
      const answer = await fetch(`http://${host}:${port}/metrics`, { headers: { authorization: `Bearer ${token}` } });
      if (!answer.ok) throw new Error(`/metrics: ${answer.status}`);
      return answer.text();
    }),
  );
  const lines = texts.flatMap((text) => text.split("\n")).filter((line) => pattern.test(line));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

const LOST_ROUND = /^mesh_gossip_messages_total\{direction="(?:sent",outcome="failed|received",outcome="refused)"\} /;

async function renewals(): Promise<Part> {
  const { streams, minutes, ttl } = values;
  const log = { renewed: 0, suspected: 0, failed: 0 };
  const onLog = (line: string) => {
    if (line.includes('"msg":"certificate renewed"')) log.renewed += 1;
    if (line.includes('"event":"member_suspected"')) log.suspected += 1;
    if (line.includes('"msg":"certificate not renewed')) log.failed += 1;
  };
  const fleet = await IdentityFleet.start({ issuers: 1, nodes: NODES, settings: { identity: { leaf_ttl: `${ttl}s` } }, onLog });
  const { token } = await fleet.createCredential();
  await sleep(3000);
  let ended = 0;
  const wires = await Promise.all(fleet.nodes.map(({ grpc }) => Wire.open(grpc, { token })));
  for (let i = 0; i < streams; i++) {
    const stream = (wires[i % wires.length] ?? fail()).stream(PATH.watch, { onMessage: () => {}, onEnd: () => (ended += 1) });
    stream.send(watchBytes());
    stream.end();
  }
  const metric = () => metricOf(fleet.nodes, token, LOST_ROUND);
  Object.assign(log, { renewed: 0, suspected: 0, failed: 0 });
  const lostBefore = await metric();
  const othersOf = othersBeside(fleet.nodes);
  await sleep(minutes * 60_000);
  const [lost, others, endedMeanwhile] = [(await metric()) - lostBefore, othersOf(), ended];
  await fleet.stop("SIGKILL");
  const named = (what: string) => `${NODES} nodes renew certificates of ${ttl} s: ${what}`;
  const none = (what: string, value: number, unit: string): Goal => ({ name: named(what), value, unit, atMost: 0 });
  const row = { minutes, streams, renewals: log.renewed, "streams ended": endedMeanwhile, suspicions: log.suspected, "rounds lost": lost };
  return {
    tables: { renewals: [{ ...row, "renewals that failed": log.failed, "others' share": round(others) }] },
    goals: [
      none("streams that ended", endedMeanwhile, "streams"),
      none("suspicions", log.suspected, "suspicions"),
      none("gossip rounds that were lost", lost, "rounds"),
    ],
    notes: ["A lost gossip round is a probe or an exchange of member lists that failed or was refused, by the nodes' own metric."],
  };
}

async function revocations(): Promise<Part> {
  const fleet = await IdentityFleet.start({ issuers: 1, nodes: values.nodes });
  const [nodes, tokens]: [CutTimes[], CutTimes[]] = [[], []];
  const othersOf = othersBeside(fleet.nodes);
  for (let i = 0; i < values.revocations; i++) {
    nodes.push(await revokeNode(fleet, `stolen-${i}`));
    tokens.push(await revokeToken(fleet));
  }
  const others = othersOf();
  await fleet.stop("SIGKILL");
  const rows = [
    { what: "node", times: nodes },
    { what: "token", times: tokens },
  ];
  const p = (of: readonly number[]) => ({ "p50 ms": percentile(of, 0.5), "p99 ms": percentile(of, 0.99) });
  const table = rows.flatMap(({ what, times }) => [
    { revoked: what, until: "cut on all nodes", ...p(times.map(({ cutMs }) => cutMs)) },
    { revoked: what, until: "refused by all nodes", ...p(times.map(({ refusedMs }) => refusedMs)) },
  ]);
  const goals = rows.map(({ what, times }): Goal => {
    const ms = times.map(({ cutMs, refusedMs }) => Math.max(cutMs, refusedMs));
    const work = `a ${what} is revoked: time until ${values.nodes} nodes have cut it and refuse it`;
    const goal = { name: `a revoked ${what} is cut and refused, p99`, value: percentile(ms, 0.99), unit: "ms", atMost: MAX_REVOKE_MS };
    return quiet({ ...goal, shown: { work, unit: "ms", ours: spread(ms) } }, others);
  });
  return {
    tables: { revocations: table.map((row) => ({ ...row, "others' share": round(others) })) },
    goals,
    notes: [
      "A node is a TLS connection to the fabric port of each node, with its certificate. A token is a watch on each node. All nodes but the issuer follow the issuer. A node counts as refused when a new connection is closed within 250 ms, so the time until refusal contains this wait only where the connection was accepted first.",
    ],
  };
}

async function absence(): Promise<Part> {
  const name = `${NODES} nodes are ready after ${values.days} days without power`;
  const goal: Goal = { name, value: undefined, unit: "s", atMost: MAX_START_SECONDS };
  if (!existsSync(LIBRARY)) return { tables: {}, goals: [{ ...goal, note: "not measured: libfaketime is not installed" }], notes: [] };
  const fleet = await IdentityFleet.start({ issuers: 1, nodes: NODES });
  await fleet.stop();
  const late = { LD_PRELOAD: LIBRARY, FAKETIME: `+${values.days}d`, FAKETIME_DONT_FAKE_MONOTONIC: "1" };
  Object.assign(process.env, late);
  const startMs = performance.now();
  await fleet.restart();
  const seconds = (performance.now() - startMs) / 1000;
  for (const variable of Object.keys(late)) delete process.env[variable];
  await fleet.stop("SIGKILL");
  return {
    tables: { absence: [{ nodes: NODES, days: values.days, "seconds until all are ready": round(seconds) }] },
    goals: [{ ...goal, value: seconds, shown: { work: name, unit: "s", ours: seconds } }],
    notes: [
      "Certificates are valid for 24 h, so all of them have ended. The nodes start together; libfaketime sets their wall clock forward.",
    ],
  };
}

const PARTS = { joins, renewals, revocations, absence } as const;
const parts: Part[] = [];
for (const part of DEFAULTS.parts) if (values.parts.includes(part)) parts.push(await PARTS[part]());
report({
  name: "identity",
  isKept: asksForAll(values, DEFAULTS),
  tables: Object.assign({}, ...parts.map(({ tables }) => tables)) as Report["tables"],
  goals: parts.flatMap(({ goals }) => goals),
  notes: parts.flatMap(({ notes }) => notes),
});
process.exit();
