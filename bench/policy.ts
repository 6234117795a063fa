/**
 * What does policy cost? CPU time of an exact query with 1,000 rules and 100 tenants in force against the same node without;
 * a verdict nobody asked before; putting 10,000 rules in force. `npm run bench -- policy [--rounds 7] [--seconds 2]`
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { toBinary } from "@bufbuild/protobuf";
import { PolicySetSchema } from "../gen/waymark/policy/v1/policy_pb.js";
import { loadConfig } from "../src/config/load.ts";
import { openLog } from "../src/lib/log.io.ts";
import { Metrics } from "../src/lib/metrics/metrics.ts";
import { openNodePolicy } from "../src/node/policy.io.ts";
import { buildCore, openStore } from "../src/node/rooms.io.ts";
import { encodePolicySet } from "../src/policy/set/codec.ts";
import type { PolicySet, Rule } from "../src/policy/set/rules.ts";
import { Policy } from "../src/policy/set/verdict.ts";
import { openAuditLog } from "../src/store/audit/log.io.ts";
import { openMemoryStore } from "../src/store/control/sqlite.io.ts";
import { argsOf, asksForAll } from "./_args.ts";
import { pinSelf, type Running, startNode } from "./_processes.ts";
import { paired, ratioOf, report, spread } from "./_results.ts";
import { ask, drive, exactQuery, itemsIn, loadNode, NAMESPACE, PATH } from "./_work.ts";

const DEFAULTS = { rounds: 7, seconds: 2 };
const values = argsOf(DEFAULTS);
const ROUNDS = values.rounds;
const SECONDS = values.seconds;
const ENTRIES = 10_000;
const TENANTS = Array.from({ length: 100 }, (_, i) => `tenant-${i}`);

function ruleOf(pattern: string, i: number): Rule {
  const quota = { entries: 0, watches: 0, bytes: 0 };
  const visibilityTenants = [0, 1, 2].map((n) => TENANTS[(i + n) % TENANTS.length] ?? "");
  const nothing = { owners: [], visibility: [], exportScopes: [], cutoverWindows: [] };
  return { ...nothing, pattern, visibilityTenants, allowSummaries: false, policyVersion: "", priority: 0, quota };
}

function setOf(count: number): PolicySet {
  const rules = Array.from({ length: count }, (_, i) => ruleOf(`org${i % 100}.app${i}.part`, i));
  return { version: "bench", defaultAllow: false, rules };
}

async function exactCost() {
  const folder = mkdtempSync(join(tmpdir(), "waymark-bench-"));
  try {
    const open = { ...ruleOf(NAMESPACE, 0), visibilityTenants: [], visibility: ["local"] };
    const set = setOf(1000);
    const file = join(folder, "policy.json");
    const yaml = set.rules.map(({ pattern, visibilityTenants }) => ({ namespace: pattern, visibility_tenants: visibilityTenants }));
    const rules = [...yaml.slice(1), { namespace: open.pattern, visibility: open.visibility }];
    writeFileSync(file, JSON.stringify({ version: "bench", default_allow: false, rules }));
    const config = join(folder, "node.toml");
    writeFileSync(config, `[policy]\nfile = ${JSON.stringify(file)}\n`);
    const [plain, ruled] = [await startNode(), await startNode({ args: ["--config", config] })];
    for (const node of [plain, ruled]) await loadNode(node, ENTRIES);
    const message = exactQuery(500);
    const costOf = async (node: Running, count: number): Promise<number> => {
      const before = node.cpuMs();
      await drive(node, PATH.query, { count, inFlight: 64, connections: 4, message: () => message });
      return ((node.cpuMs() - before) * 1000) / count;
    };
    for (const node of [plain, ruled]) {
      if (itemsIn(node, await ask(node, PATH.query, message)) !== 10) throw new Error("the policy hides what is asked for");
      await costOf(node, 20_000);
    }
    const count = Math.round((SECONDS * 1e6) / (await costOf(plain, 10_000)) / 1000) * 1000;
    const rounds = await paired(
      ROUNDS,
      () => costOf(ruled, count),
      () => costOf(plain, count),
    );
    await Promise.all([plain.stop(), ruled.stop()]);
    return { off: spread(rounds.b), on: spread(rounds.a), ratio: ratioOf(rounds.a, rounds.b)?.median };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Mean time of a verdict that is in no cache, in µs. */
function coldVerdict(): number[] {
  const set = setOf(1000);
  return Array.from({ length: ROUNDS }, () => {
    const policy = new Policy(set, 1);
    const count = 100_000;
    const start = performance.now();
    for (let i = 0; i < count; i++)
      policy.viewer(`org${i % 100}.app${i % 1000}.part.x${Math.floor(i / 1000)}`, { clusterId: "local", tenant: TENANTS[i % 100] ?? "" });
    return ((performance.now() - start) * 1000) / count;
  });
}

/** The longest turn of the event loop, in ms of this thread's CPU time: what neighbours on the core take does not count. */
function watchTurns(): () => number {
  const cpuMs = () => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  };
  let isOver = false;
  let longest = 0;
  let last = cpuMs();
  const turn = () => {
    const now = cpuMs();
    longest = Math.max(longest, now - last);
    last = now;
    if (!isOver) setImmediate(turn);
  };
  setImmediate(turn);
  return () => {
    isOver = true;
    return longest;
  };
}

async function applyCost() {
  const loaded = loadConfig({ env: {}, flags: new Map([["persistence.ephemeral", true]]) });
  if (!loaded.ok) throw new Error("the defaults do not load");
  const { settings } = loaded.effective;
  const log = openLog({ level: "silent", scopes: new Map(), format: "json" });
  const options = { settings, log, version: "bench" };
  const journal = await openStore(options);
  const metrics = new Metrics();
  const audit = await openAuditLog({ ...settings.audit, directory: undefined, metrics, log: log.child("audit") });
  const store = openMemoryStore();
  const core = await buildCore(options, { journal, metrics, audit });
  const policy = await openNodePolicy({
    settings,
    log: log.child("policy"),
    core,
    audit,
    store,
    mayBeOthers: () => false,
    tick: () => () => {},
  });
  const handler = policy.service.handlers["applyPolicy"];
  if (handler?.kind !== "unary") throw new Error("no applyPolicy");
  const caller = { principal: "bench", tenant: "", cluster: "local", roles: ["mesh.admin"], isAuthenticated: true, address: "" };
  const wire = encodePolicySet(setOf(10_000), 0);
  const tookMs: number[] = [];
  const stallMs: number[] = [];
  const turnMs: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const longestTurn = watchTurns();
    const start = performance.now();
    const request = {
      policy: { ...wire, version: `v${i}` },
      dryRun: false,
      expectedNumber: 0n,
      stage: undefined,
      reason: "",
      changeTicket: "",
    };
    await handler.handle(request as never, { caller, time: { monoMs: start, wallMs: Date.now() }, requestId: "" });
    tookMs.push(performance.now() - start);
    delay.disable();
    turnMs.push(longestTurn());
    stallMs.push(delay.max / 1e6);
  }
  for (const wakeup of core.wakeups) wakeup.close();
  await core.driver.close();
  core.limits.close();
  await audit.close();
  await store.close();
  await journal.close();
  return {
    "request bytes": toBinary(PolicySetSchema, wire).length,
    "took ms": spread(tookMs),
    "longest turn, CPU ms": spread(turnMs),
    "longest stall by the clock, ms": spread(stallMs),
  };
}

pinSelf();
const exact = await exactCost();
const cold = spread(coldVerdict());
const applied = await applyCost();
report({
  name: "policy",
  isKept: asksForAll(values, DEFAULTS),
  tables: {
    "CPU µs of an exact query of 10 entries": [{ "without policy": exact.off, "1,000 rules, 100 tenants": exact.on }],
    "a verdict that is in no cache, µs": [{ rules: 1000, tenants: 100, µs: cold }],
    "ApplyPolicy of 10,000 rules in a node's process": [applied],
  },
  goals: [
    { name: "exact query with policy over without, CPU", value: exact.ratio, unit: "×", atMost: 1.1 },
    { name: "cold verdict", value: cold.median, unit: "µs", atMost: 5 },
    { name: "10,000 rules applied (slowest round)", value: applied["took ms"].max, unit: "ms", atMost: 1000 },
    { name: "longest turn of the event loop meanwhile (worst round)", value: applied["longest turn, CPU ms"].max, unit: "ms", atMost: 50 },
  ],
  notes: [
    "A and B are two processes of the same binary with the same entries on the same core, asked in turns (A B B A).",
    "The policy is applied through the service's handler and the node's own store and audit, in memory; a turn is measured in CPU time of the thread, a stall by the clock, which neighbours lengthen.",
  ],
});
